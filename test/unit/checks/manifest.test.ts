import { describe, expect, test } from "vitest";
import { manifest, queries, sequenceValues } from "../../../lib/checks/source/manifest.ts";
import type { Snapshot } from "../../../lib/manifest/manifest.ts";
import { answersOf } from "../manifest/answers.ts";
import { asked, emptyManifest, receipt } from "./asked.ts";

const answers = (change: Partial<Snapshot> = {}): { answers: Snapshot } => ({
  answers: {
    objects: [],
    sequences: [],
    queries: [],
    tables: [],
    moved: new Map([["app", new Set()]]),
    collations: [],
    problems: [],
    ...change,
  },
});
const withManifest = (change: Partial<typeof emptyManifest>) => ({
  ...asked,
  receipt: { ...receipt, manifest: { ...emptyManifest, ...change } },
});

describe("manifest", () => {
  const given = withManifest({
    objects: [{ database: "app", question: "tables", objects: { a: "1", b: "2" }, moved: ["c"], complete: true }],
  });
  const tables = (objects: Record<string, string>, sqlState?: string) =>
    answers({
      objects: [
        {
          database: "app",
          question: "tables",
          objects: answersOf(
            Object.fromEntries(
              Object.entries(objects).map(([name, digest]) => [
                name,
                { digest, version: "", old: true, calm: true, object: name },
              ]),
            ),
          ),
          ...(sqlState === undefined ? {} : { problem: { sqlState, message: "no" } }),
        },
      ],
    });

  test("passes on equal answers and counts what moved as not covered", () => {
    expect(manifest.judge(tables({ a: "1", b: "2" }), given)).toMatchObject({
      status: "pass",
      summary: "2 objects as on the source; 1 changed on the source meanwhile and prove nothing",
      coverage: { manifest: { objects: 2, of_objects: 3, moved: 1 } },
    });
  });

  test("fails on what differs and misses, and names database, kind and object", () => {
    expect(manifest.judge(tables({ a: "9" }), given)).toMatchObject({
      status: "fail",
      summary:
        "2 objects differ from the source: app: tables: a: is defined otherwise than on the source, app: tables: b: is missing here",
    });
  });

  test("a question that the source answered and that fails here is a difference, unless it only could not be had", () => {
    expect(manifest.judge(tables({}, "58P01"), given).status).toBe("fail");
    expect(manifest.judge(tables({}, "57014"), given).status).toBe("unverified");
    expect(manifest.judge(tables({}, "42501"), given).status).toBe("unverified");
  });

  test("proves nothing when there is nothing to compare, or when everything moved", () => {
    expect(manifest.judge(answers(), withManifest({})).status).toBe("unverified");
    const moved = withManifest({
      objects: [{ database: "app", question: "tables", objects: {}, moved: ["a"], complete: true }],
    });
    expect(manifest.judge(tables({ a: "1" }), moved).status).toBe("unverified");
  });
});

describe("queries", () => {
  const query = { name: "orders", database: "app", sql: "SELECT 1" };
  const expected = { database: "app", name: "orders", count: 3, digest: "1", moved: false, still: true };
  const given = (change: Partial<typeof expected> = {}) => {
    const base = withManifest({ queries: [{ ...expected, ...change }] });
    return { ...base, receipt: { ...base.receipt, queries: [query] } };
  };
  const found = (digest: string, tables: string | null = "3/0") =>
    answers({ queries: [{ name: "orders", database: "app", count: 3, digest, tables }] });

  test("the same result passes, another one fails", () => {
    expect(queries.judge(found("1"), given())).toMatchObject({ status: "pass", coverage: { queries: { equal: 1 } } });
    expect(queries.judge(found("2"), given()).status).toBe("fail");
  });

  test("another result proves nothing when the query's tables were written in between, before or after the target", () => {
    expect(queries.judge(found("2"), given({ still: false })).status).toBe("warn");
    expect(queries.judge(found("2", "3/1"), given()).status).toBe("warn");
    expect(queries.judge(found("2", null), given()).status).toBe("warn");
  });

  test("a query of the settings file that the source was never asked cannot be compared", () => {
    const other = { ...query, sql: "SELECT 2" };
    expect(queries.judge(found("1"), { ...given(), queries: [query] }).status).toBe("pass");
    expect(queries.judge(found("1"), { ...given(), queries: [other] }).status).toBe("unverified");
  });

  test("are not asked for when neither the receipt nor the settings hold any", () => {
    expect(queries.skip?.(asked)).not.toBeNull();
    expect(queries.skip?.(given())).toBeNull();
    expect(queries.skip?.({ ...asked, queries: [query] })).toBeNull();
  });
});

describe("sequence-values", () => {
  const sequence = {
    database: "app",
    name: "s",
    last_value: "100",
    is_called: true,
    increment: "1",
    cache: "1",
    cycle: false,
  };
  const given = withManifest({ sequences: [sequence], sequences_moved: 2 });
  const value = (lastValue: string) =>
    answers({
      sequences: [
        {
          database: "app",
          values: [
            { oid: "1", name: "s", lastValue, isCalled: true, increment: "1", cache: "1", cycle: false, state: "" },
          ],
        },
      ],
    });

  test("ahead by what recovery explains passes, behind or absent fails", () => {
    expect(sequenceValues.judge(value("120"), given).status).toBe("pass");
    expect(sequenceValues.judge(value("99"), given)).toMatchObject({
      status: "fail",
      summary: "app: sequence s: is at 99, behind the source's 100",
    });
    expect(sequenceValues.judge(answers({ sequences: [{ database: "app", values: [] }] }), given).status).toBe("fail");
  });

  test("a database whose sequences cannot be read is damage", () => {
    const problems = [{ database: "app", what: "sequences", why: "could not open file" }];
    expect(sequenceValues.judge(answers({ problems }), given).status).toBe("fail");
  });
});
