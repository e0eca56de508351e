import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Receipt } from "../../../lib/mark/receipt.ts";
import type { Target } from "../../../lib/postgres/target.ts";
import {
  type Choice,
  chooseBackup,
  parseInfo,
  type StanzaInfo,
  stanzaProblems,
} from "../../../lib/restore/backup-info.ts";

const fixture = (name: string) => readFileSync(new URL(`../../fixtures/${name}`, import.meta.url), "utf8");
const info = parseInfo(fixture("pgbackrest-info-2.45.json"), "main") as StanzaInfo;
const FULL = "20261122-235101F"; // stopped 23:51:04 at 0/2000100
const INCR = "20261122-235101F_20261122-235106I"; // stopped 23:51:09 at 0/70001B0

const at = (type: Target["type"], value: string | null, timeline: string | null = null): Target => ({
  type,
  value,
  timeline,
  exclusive: false,
});

test("a system identifier keeps all its digits", () => {
  expect(info.db[0]?.["system-id"]).toBe("7711147517477380914");
});

describe("the stanza is judged by its status, never by pgBackRest's exit code", () => {
  test("a good stanza has no problem", () => {
    expect(stanzaProblems(info, "main")).toEqual([]);
  });

  test("a missing one is named with code and repository", () => {
    const missing = parseInfo(fixture("pgbackrest-info-2.45-missing-stanza.json"), "nope");
    expect(stanzaProblems(missing, "nope")).toMatchObject([
      { message: 'stanza "nope": missing stanza path (code 1) in repo1' },
    ]);
  });

  test("one that is not in the answer at all is a problem too", () => {
    expect(stanzaProblems(undefined, "x")).toMatchObject([{ message: 'stanza "x" is not known to pgBackRest' }]);
  });

  test("one broken repository of two does not matter, two do", () => {
    const broken = { code: 99, message: "[CryptoError] unable to flush" };
    const ok = { code: 0, message: "ok" };
    const repo = (first: typeof ok) => [
      { key: 1, status: first },
      { key: 2, status: broken },
    ];
    expect(stanzaProblems({ ...info, status: broken, repo: repo(ok) }, "main")).toEqual([]);
    expect(stanzaProblems({ ...info, status: broken, repo: repo(broken) }, "main")).toHaveLength(2);
  });

  test("a store that refuses is named with its own word and a hint, in one line", () => {
    const message = `[ProtocolError] HTTP request failed with 403 (Forbidden):
*** Path/Query ***:
GET /bucket/?list-type=2
*** Response Content ***:
<Error><Code>InvalidAccessKeyId</Code></Error>`;
    const repo = [{ key: 1, status: { code: 99, message } }];
    expect(stanzaProblems({ ...info, status: { code: 99, message: "other" }, repo }, "main")).toEqual([
      {
        message:
          'stanza "main": [ProtocolError] HTTP request failed with 403 (Forbidden): InvalidAccessKeyId, ' +
          "GET /bucket/?list-type=2 (code 99) in repo1",
        hint: expect.stringContaining("the store refuses this credential"),
      },
    ]);
  });

  test("a stanza without any backup is a problem", () => {
    expect(stanzaProblems({ ...info, backup: [] }, "main")).toMatchObject([{ message: 'stanza "main" has no backup' }]);
  });
});

describe("the newest backup that ended before the target", () => {
  test.each([
    { target: at("latest", null), label: INCR },
    { target: at("immediate", null), label: INCR },
    { target: at("time", "2026-11-22 23:52:00+00"), label: INCR },
    { target: at("time", "2026-11-22 23:51:10+00"), label: INCR },
    { target: at("time", "2026-11-23 00:51:08.999999+01"), label: FULL },
    { target: at("lsn", "0/70001B0"), label: INCR },
    { target: at("lsn", "0/70001AF"), label: FULL },
  ])("$target.type $target.value → $label", ({ target, label }) => {
    expect((chooseBackup(info, target, {}) as Choice).backup.label).toBe(label);
  });

  test("in the second in which a backup ended, the one before is taken and that is said", () => {
    const choice = chooseBackup(info, at("time", "2026-11-22 23:51:09.9+00"), {}) as Choice;
    expect(choice.backup.label).toBe(FULL);
    expect(choice.warnings).toEqual([`backup ${INCR} ended in the second of the target and is not used; ${FULL} is`]);
  });

  test("with a receipt its LSN decides, within the second in which the backup ended too", () => {
    const time = "2026-11-22 23:51:09.9+00";
    const receipt = (lsn: string) => ({ target: { time, lsn, name: "rp" } }) as Receipt;
    const choose = (lsn: string) => chooseBackup(info, at("time", time), { receipt: receipt(lsn) }) as Choice;
    expect(choose("0/7000200")).toMatchObject({ backup: { label: INCR }, warnings: [] });
    expect(choose("0/7000100").backup.label).toBe(FULL);
  });

  test("a target before all backups names the first restorable time", () => {
    expect(chooseBackup(info, at("time", "2026-10-01 00:00:00+00"), {})).toMatchObject({
      message: `target time 2026-10-01 00:00:00+00 is before the first restorable time 2026-11-22 23:51:05+00 (backup ${FULL}, repo1)`,
    });
  });

  test("a set that cannot reach the target is refused although it was asked for", () => {
    expect(chooseBackup(info, at("time", "2026-11-22 23:51:05+00"), { set: INCR })).toMatchObject({
      message: `backup set ${INCR} cannot reach the target: it ended at 2026-11-22 23:51:09+00`,
    });
  });

  test("a set that does not exist is answered with those that do", () => {
    expect(chooseBackup(info, at("latest", null), { set: "nope" })).toMatchObject({
      message: 'backup set "nope" does not exist in stanza "main"',
      hint: `there are ${INCR}, ${FULL}`,
    });
  });

  test.each(["xid", "name"] as const)("%s: no backup can be searched for it", (type) => {
    expect(chooseBackup(info, at(type, "735"), {})).toMatchObject({ hint: "give --set" });
  });

  test("a backup with page checksum errors is named", () => {
    const backup = info.backup.map((b) => ({ ...b, error: b.label === INCR }));
    const choice = chooseBackup({ ...info, backup }, at("latest", null), {}) as Choice;
    expect(choice.warnings[0]).toContain(`backup ${INCR} recorded page checksum errors`);
  });
});
