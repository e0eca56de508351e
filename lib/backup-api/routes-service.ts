/** The repository, and the API itself. */

import { z } from "zod";
import { monitoringRoutes } from "../http/monitoring-routes.ts";
import { answerProblems, joinTexts } from "./info.ts";
import { archiveProblems, describeArchive, formatJson, unseenArchives } from "./present.ts";
import { FRESH_MS } from "./repository.ts";
import { type Api, json, type Route } from "./route.ts";

export function serviceRoutes(api: Api): Route[] {
  return [
    {
      method: "GET",
      path: "/info",
      summary: "pgBackRest's info, judged by its status codes",
      query: z.strictObject({}),
      answers: { 200: "every stanza is in order in every repository", 503: "problems says what is not" },
      async handle() {
        const { value } = await api.repository.info.read(FRESH_MS);
        const problems = value.flatMap(answerProblems).map(({ message }) => message);
        const head = formatJson({ ok: problems.length === 0, problems }).slice(0, -2);
        const text = `${head},\n    "stanzas": ${joinTexts(value)}\n}`;
        return { status: problems.length === 0 ? 200 : 503, text };
      },
    },
    {
      method: "GET",
      path: "/wal",
      summary: "The WAL archive: its gaps, its newest segment, and up to when can be restored",
      query: z.strictObject({}),
      answers: { 200: "nothing is missing", 503: "problems says what is" },
      async handle() {
        const { value } = await api.repository.archive.read(FRESH_MS);
        const answers = api.repository.info.latest()?.value ?? [];
        const now = new Date();
        const problems = [...unseenArchives(answers, value), ...value.flatMap((one) => archiveProblems(one, now))];
        const archives = value.map((one) => describeArchive(one, now));
        return json(problems.length === 0 ? 200 : 503, { ok: problems.length === 0, problems, archives });
      },
    },
    ...monitoringRoutes({
      metrics: () => api.metrics(),
      notReady: () => api.notReady(),
      readiness: "Stanzas and repository can be used",
    }),
  ];
}
