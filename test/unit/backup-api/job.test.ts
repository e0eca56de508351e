import { describe, expect, test } from "vitest";
import {
  groupOf,
  hasEnded,
  JOB_COMMANDS,
  JOB_STATUSES,
  labelOf,
  newJob,
  newLabel,
} from "../../../lib/backup-api/job.ts";
import { job } from "./samples.ts";

describe("labels", () => {
  test("are the second of the start, in UTC", () => {
    expect(newLabel(new Date("2026-11-23T01:00:00.999Z"), () => false)).toBe("20261123010000");
    expect(newLabel(new Date("2026-03-29T03:30:00+02:00"), () => false)).toBe("20260329013000");
    expect(labelOf(Date.parse("2026-12-31T23:59:59Z") / 1000)).toBe("20261231235959");
  });

  test("of several in one second the later ones have the next free ones", () => {
    const taken = new Set<string>();
    const at = new Date("2026-12-31T23:59:58.100Z");
    for (let i = 0; i < 4; i++) taken.add(newLabel(at, (label) => taken.has(label)));
    expect([...taken]).toEqual(["20261231235958", "20261231235959", "20270101000000", "20270101000001"]);
  });

  test("the start itself stays what it was", () => {
    const request = { command: "backup", type: "full", stanza: "main", by: "request" } as const;
    const made = newJob(request, new Date("2026-11-23T01:00:00.250Z"), (label) => label === "20261123010000");
    expect(made).toMatchObject({
      label: "20261123010001",
      startedAt: "2026-11-23T01:00:00.250Z",
      status: "REQUESTED",
      pid: null,
      ...request,
    });
  });
});

test("what has ended", () => {
  expect(JOB_STATUSES.filter((status) => hasEnded(job({ status })))).toEqual(["FINISHED", "ERROR", "CANCELLED"]);
});

test("backup and expire share pgBackRest's lock, the others run beside them", () => {
  expect(JOB_COMMANDS.map(groupOf)).toEqual(["repository", "repository", "verify", "restore-test"]);
});
