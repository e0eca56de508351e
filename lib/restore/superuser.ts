/** Which role to work as in the restored cluster, and whether Patroni will be able to log in. */

import { RestoreError } from "../errors.ts";
import type { Postmaster } from "../io/postgres.ts";
import { superusersOf } from "./detach.ts";

/** The first candidate that is a superuser. `wanted` is Patroni's own, without which it would wait for ever. */
export async function chooseSuperuser(
  postmaster: Postmaster,
  candidates: string[],
  wanted: string | undefined,
): Promise<string> {
  let failure: unknown;
  for (const user of candidates) {
    try {
      const superusers = await superusersOf({ ...postmaster.conninfo, user });
      if (wanted !== undefined && !superusers.includes(wanted)) {
        throw new RestoreError(
          "PREFLIGHT_FAILED",
          `superuser "${wanted}" does not exist in the restored cluster; it has ${superusers.join(", ")}`,
          { hint: "Patroni could never log in: set postgresql.authentication.superuser.username to one of these" },
        );
      }
      if (superusers.includes(user)) return user;
    } catch (error) {
      if (error instanceof RestoreError) throw error;
      failure = error;
    }
  }
  throw new RestoreError("DETACH_FAILED", `none of ${candidates.join(", ")} is a superuser of the restored cluster`, {
    hint: "give --superuser",
    cause: failure,
  });
}
