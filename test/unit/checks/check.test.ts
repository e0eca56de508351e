import { describe, expect, test, vi } from "vitest";
import { type Check, enumerate, type Judgement, runChecks } from "../../../lib/checks/check.ts";
import type { Edge } from "../../../lib/checks/edge.ts";
import { describeFailure, isAway, isDamage } from "../../../lib/checks/failure.ts";
import { CHECKS } from "../../../lib/checks/index.ts";
import { RestoreError } from "../../../lib/errors.ts";
import type { Database } from "../../../lib/io/database.ts";
import { inParallel } from "../../../lib/parallel.ts";
import { asked } from "./asked.ts";

const never = new AbortController().signal;

function edgeWith(signal: AbortSignal = never): Edge {
  let looked = Promise.resolve();
  const edge = {
    signal,
    failures: [],
    forgetManifestAnswers: () => {},
    lookAhead: (plan: Parameters<Edge["lookAhead"]>[0]) => {
      looked = plan("app", {} as Database, []);
    },
    relations: () => looked,
    forCheck: (s: AbortSignal) => ({ ...edge, signal: s }),
  } as unknown as Edge;
  return edge;
}

const check = (id: string, change: Partial<Check> = {}): Check => ({
  id,
  claim: "consistency",
  levels: ["quick", "standard", "full"],
  collect: async () => ({ seen: id }),
  judge: () => ({ status: "pass", summary: `${id} is fine` }),
  ...change,
});

const run = async (checks: Check[], options: { jobs?: number; timeoutMs?: number; edge?: Edge } = {}) =>
  (
    await runChecks(checks, asked, options.edge ?? edgeWith(), {
      jobs: options.jobs ?? 4,
      timeoutMs: options.timeoutMs ?? 60_000,
    })
  ).map((outcome) => outcome.result);

const databaseError = (code: string, message: string, more: object = {}) =>
  Object.assign(new Error(message), { code, ...more });

describe("running checks", () => {
  test("keeps their order and puts what was collected into the report", async () => {
    const results = await run([check("a"), check("b")]);
    expect(results.map((r) => [r.id, r.status, r.facts])).toEqual([
      ["a", "pass", { seen: "a" }],
      ["b", "pass", { seen: "b" }],
    ]);
  });

  test("a check of another level, or one that was not asked for, is skipped and says why", async () => {
    const collect = () => Promise.reject(new Error("must not be collected"));
    const results = await run([
      check("deep", { levels: ["full"], collect }),
      check("other", { skip: () => "no receipt", collect }),
    ]);
    expect(results.map((r) => [r.status, r.summary])).toEqual([
      ["skipped", "not part of level standard"],
      ["skipped", "no receipt"],
    ]);
  });

  test("what a check plans is what it collects by; one that is not asked for is not planned", async () => {
    const results = await run([
      check("a", {
        stage: "data",
        plan: async () => "tables",
        collect: (edge, planned) => edge.relations().then(() => ({ seen: planned("app") })),
      }),
      check("deep", { stage: "data", levels: ["full"], plan: () => Promise.reject(new Error("must not be planned")) }),
      check("b", {
        stage: "data",
        plan: () => Promise.reject(databaseError("XX001", "invalid page")),
        collect: (edge, planned) => edge.relations().then(() => planned("app")),
      }),
    ]);
    expect(results.map((r) => [r.id, r.status])).toEqual([
      ["a", "pass"],
      ["deep", "skipped"],
      ["b", "fail"],
    ]);
    expect(results[0]?.facts).toEqual({ seen: "tables" });
    expect(results[2]?.summary).toContain("stopped by damage: invalid page");
  });

  test("an exception while collecting is unverified, with SQLSTATE and object", async () => {
    const error = databaseError("42501", "permission denied", { schema: "patroni_restore", table: "marker" });
    const [result] = await run([check("a", { collect: () => Promise.reject(error) })]);
    expect(result).toMatchObject({
      status: "unverified",
      summary: "could not run: permission denied (SQLSTATE 42501, patroni_restore.marker)",
      hint: expect.stringContaining("superuser"),
    });
  });

  test("an exception while judging is a bug and not a verdict", async () => {
    const judge = (): Judgement => {
      throw new TypeError("a bug");
    };
    await expect(run([check("a", { judge }), check("b")])).rejects.toThrow("a bug");
  });

  test("several problems at once are all reported", async () => {
    const bad = (id: string) => check(id, { judge: () => ({ status: "fail", summary: id }) });
    expect((await run([bad("a"), check("b"), bad("c")])).map((r) => r.status)).toEqual(["fail", "pass", "fail"]);
  });

  test("a check that passes its limit is unverified, even one that ignores its signal", async () => {
    const hangs = check("hangs", { collect: () => new Promise(() => {}) });
    const [result, other] = await run([hangs, check("b")], { timeoutMs: 20 });
    expect(result).toMatchObject({ status: "unverified", summary: "did not finish within 20ms" });
    expect(other?.status).toBe("pass");
  });

  test("those that waited for the answers of such a check say the same", async () => {
    let answers: Promise<never> | undefined;
    const collect: Check["collect"] = ({ signal }) => {
      answers ??= new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      return answers;
    };
    const waits: Check["collect"] = () => answers as Promise<never>;
    const stage = "databases" as const;
    const results = await run([check("asks", { stage, collect }), check("waits", { stage, collect: waits })], {
      timeoutMs: 20,
    });
    for (const { status, summary } of results)
      expect([status, summary]).toEqual(["unverified", "did not finish within 20ms"]);
  });

  test("what a check waits for others counts neither for its limit nor as its duration", async () => {
    vi.useFakeTimers();
    const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
    const edge: Edge = {
      ...edgeWith(),
      forCheck: (signal, watch) => ({
        ...edge,
        signal,
        relations: () => watch.except(() => sleep(100).then(() => [])),
      }),
    };
    const collect: Check["collect"] = async ({ relations }) => {
      await sleep(15);
      await relations();
      await sleep(3);
    };
    const results = run([check("waits", { collect })], { timeoutMs: 20, edge });
    await vi.advanceTimersByTimeAsync(200);
    vi.useRealTimers();
    expect(await results).toMatchObject([{ status: "pass", duration_ms: 18 }]);
  });

  test("an abort from outside ends everything with its own reason", async () => {
    const stop = new AbortController();
    const hangs = check("hangs", {
      collect: () => {
        stop.abort(new RestoreError("TERMINATED", "ended by SIGTERM"));
        return new Promise(() => {});
      },
    });
    await expect(run([hangs, check("b")], { edge: edgeWith(stop.signal) })).rejects.toThrow("ended by SIGTERM");
  });

  test("no more than the given number run at the same time, and the last one runs alone", async () => {
    let running = 0;
    let most = 0;
    const order: string[] = [];
    const counted = (id: string, last = false) =>
      check(id, {
        ...(last ? { stage: "last" as const } : {}),
        async collect() {
          most = Math.max(most, ++running);
          if (last) expect(running).toBe(1);
          await new Promise((resolve) => setImmediate(resolve));
          running--;
          order.push(id);
          return {};
        },
      });
    await run([counted("z", true), ...["a", "b", "c", "d", "e"].map((id) => counted(id))], { jobs: 2 });
    expect(most).toBe(2);
    expect(order.at(-1)).toBe("z");
  });
});

test("work in parallel keeps its order and fails as a whole", async () => {
  expect(await inParallel([1, 2, 3], 2, async (n) => n * 2)).toEqual([2, 4, 6]);
  expect(await inParallel([], 2, async (n) => n)).toEqual([]);
  await expect(
    inParallel([1, 2], 2, (n) => (n === 2 ? Promise.reject(new Error("two")) : Promise.resolve(n))),
  ).rejects.toThrow("two");
});

test("every check has its own name, and together they support each claim", () => {
  expect(new Set(CHECKS.map((c) => c.id)).size).toBe(CHECKS.length);
  for (const { id } of CHECKS) expect(id).toMatch(/^[a-z]+(-[a-z]+)*$/);
  expect(new Set(CHECKS.map((c) => c.claim))).toEqual(new Set(["recentness", "consistency", "safety"]));
});

describe("failures", () => {
  test.each(["57P01", "57P03", "ECONNREFUSED", "ECONNRESET", "ENOENT", "08006"])("%s: the server is away", (code) => {
    expect(isAway(databaseError(code, "x"))).toBe(true);
  });
  test.each(["42501", "XX001", "28P01", "57014"])("%s: the server is there", (code) => {
    expect(isAway(databaseError(code, "x"))).toBe(false);
  });
  test.each(["XX000", "XX001", "XX002", "58P01", "58030", "3D000"])("%s is damage", (code) => {
    expect(isDamage(databaseError(code, "x"))).toBe(true);
  });
  test.each([
    ["XX000", 'could not extend file "base/5/16384": Disk quota exceeded'],
    ["XX000", 'could not open file "base/5/16384": Cannot allocate memory'],
  ])("%s: %s is the machine's want, not damage", (code, message) => {
    expect(isDamage(databaseError(code, message))).toBe(false);
  });
  test("a broken connection of node-postgres is the server's absence", () => {
    expect(isAway(new Error("Connection terminated unexpectedly"))).toBe(true);
  });
  test("what a RestoreError explains counts, not its own name", () => {
    const error = new RestoreError("SOURCE_UNREACHABLE", "cannot ask", { cause: databaseError("57P01", "x") });
    expect(isAway(error)).toBe(true);
    expect(describeFailure(error).message).toContain("57P01");
  });
  test("a hint for a server that went away names Patroni's retry_timeout", () => {
    expect(describeFailure(databaseError("57P01", "terminating connection")).hint).toMatch(/retry_timeout/);
  });
  test("a lock that was not to be had is neither damage nor absence, and the hint names where to look", () => {
    const error = databaseError("55P03", "canceling statement due to lock timeout");
    expect([isDamage(error), isAway(error)]).toEqual([false, false]);
    expect(describeFailure(error).hint).toMatch(/pg_locks/);
  });
});

test("long lists are cut with the number of the rest", () => {
  expect(enumerate(["a", "b", "c"], 2)).toBe("a, b and 1 more");
  expect(enumerate(["a", "b"], 2)).toBe("a, b");
});
