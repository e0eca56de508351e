/** What can be asked of the API: one table, from which the application and its OpenAPI document are made. */

import type { Api, Route } from "./route.ts";
import { backupRoutes } from "./routes-backups.ts";
import { jobRoutes } from "./routes-jobs.ts";
import { serviceRoutes } from "./routes-service.ts";

export function routes(api: Api): Route[] {
  return [...backupRoutes(api), ...jobRoutes(api, "expire"), ...jobRoutes(api, "verify")]
    .concat(api.hasRestoreTest ? jobRoutes(api, "restore-test") : [])
    .concat(serviceRoutes(api));
}
