import { beforeEach, describe, expect, test } from "vitest";
import { type Outcome, Pool, type PoolOptions, type Unit } from "../../../lib/checks/pool.ts";
import type { Relation } from "../../../lib/checks/relations.ts";
import { type Session, ToolMissing } from "../../../lib/checks/session.ts";
import type { Database } from "../../../lib/io/database.ts";

const never = new AbortController().signal;
const failure = (code: string, message = code) => Object.assign(new Error(message), { code });

/** A server that answers every statement with nothing; `answer` may throw. */
function server(answer: (sql: string, database: string) => void = () => {}) {
  const opened: string[] = [];
  const open: PoolOptions["open"] = async (database, use) => {
    opened.push(database);
    answer("connect", database);
    const query = async (sql: string) => {
      answer(sql, database);
      return [];
    };
    return use({ query } as unknown as Database);
  };
  return { opened, open };
}

const poolWith = (options: Partial<PoolOptions> = {}) =>
  new Pool({ jobs: 1, budgetMs: null, signal: never, open: server().open, ...options });

async function run<T>(pool: Pool, unit: Unit, use: (session: Session) => Promise<T>): Promise<Outcome<T>> {
  const outcomes: Outcome<T>[] = [];
  await pool.work([unit], use, (_, outcome) => outcomes.push(outcome));
  return outcomes[0] as Outcome<T>;
}

const provenBy = () => [...relations.values()].filter(({ proven }) => proven).map(({ name }) => name);

const relations = new Map<string, Relation>();
function relation(name: string): Relation {
  const known = relations.get(name) ?? ({ database: "a", name, proven: null as boolean | null } as Relation);
  relations.set(name, known);
  return known;
}

const unit = (name: string, more: Partial<Unit> = {}): Unit => ({
  database: "a",
  relations: [relation(name)],
  bytes: 1,
  rank: 0,
  ...more,
});

async function order(pool: Pool, units: Unit[]): Promise<string[]> {
  const seen: string[] = [];
  await Promise.all(units.map((u) => run(pool, u, async () => void seen.push(u.relations[0]?.name ?? ""))));
  return seen;
}

beforeEach(() => relations.clear());

describe("the order of units", () => {
  const units = [
    unit("small", { bytes: 1, rank: 0 }),
    unit("big", { bytes: 9, rank: 2 }),
    unit("must", { bytes: 0, rank: 3, always: true }),
    unit("middle", { bytes: 5, rank: 1 }),
  ];
  test("without a budget: what must be done, then the biggest", async () => {
    expect(await order(poolWith(), units)).toEqual(["must", "big", "middle", "small"]);
  });
  test("with a budget: what must be done, then by rank", async () => {
    expect(await order(poolWith({ budgetMs: 60_000 }), units)).toEqual(["must", "small", "middle", "big"]);
  });
  test("one session per database, as long as it has units", async () => {
    const { opened, open } = server();
    await order(poolWith({ open }), [unit("1", { bytes: 3 }), unit("2", { database: "b", bytes: 2 }), unit("3")]);
    expect(opened).toEqual(["a", "b"]);
  });
});

test("no more sessions than jobs, and a late unit does not wait behind a busy one", async () => {
  let running = 0;
  let most = 0;
  const pool = poolWith({ jobs: 2 });
  let release = () => {};
  const held = run(
    pool,
    unit("held"),
    () =>
      new Promise<void>((resolve) => {
        release = resolve;
      }),
  );
  await new Promise((resolve) => setTimeout(resolve, 5));
  await Promise.all(
    ["1", "2", "3"].map((name) =>
      run(pool, unit(name), async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setImmediate(resolve));
        running--;
      }),
    ),
  );
  expect(most).toBe(1);
  release();
  expect(await held).toEqual({ kind: "done", value: undefined });
});

test("a spent budget leaves out what need not be done", async () => {
  const pool = poolWith({ budgetMs: 0 });
  const slow = () => new Promise((resolve) => setTimeout(resolve, 5));
  const [must, other] = await Promise.all([
    run(pool, unit("must", { always: true }), slow),
    run(pool, unit("other"), slow),
  ]);
  expect(must.kind).toBe("done");
  expect(other).toEqual({ kind: "left-out", why: "the budget was spent" });
  expect(provenBy()).toEqual(["must"]);
});

test("a unit that fails leaves the session to the next, and its object unproven", async () => {
  const { opened, open } = server();
  const failures: unknown[] = [];
  const pool = poolWith({ open, onFailure: (error) => failures.push(error) });
  const bad = failure("XX001");
  const outcomes = await Promise.all([
    run(pool, unit("t"), () => Promise.reject(bad)),
    run(pool, unit("t"), async () => 1),
    run(pool, unit("u", { relations: [relation("u"), relation("v")] }), async () => 2),
  ]);
  expect(outcomes).toEqual([
    { kind: "failed", error: bad },
    { kind: "done", value: 1 },
    { kind: "done", value: 2 },
  ]);
  expect(opened).toEqual(["a"]);
  expect(provenBy()).toEqual(["u", "v"]);
  expect(failures).toEqual([bad]);
});

test("a lost connection fails its unit only; the rest get a new session", async () => {
  const { opened, open } = server();
  const pool = poolWith({ open });
  const outcomes = await Promise.all([
    run(pool, unit("t"), () => Promise.reject(failure("57P02"))),
    run(pool, unit("u"), async () => 1),
  ]);
  expect(outcomes.map((o) => o.kind)).toEqual(["failed", "done"]);
  expect(opened).toEqual(["a", "a"]);
});

test("a server that is back after a moment is waited for", async () => {
  let refusals = 2;
  const { open } = server((sql) => {
    if (sql === "connect" && refusals-- > 0) throw failure("57P03");
  });
  expect(await run(poolWith({ open }), unit("t"), async () => 1)).toEqual({ kind: "done", value: 1 });
});

test("a database that lets nobody in fails all of its units at once, and no others", async () => {
  const { opened, open } = server((sql, database) => {
    if (sql === "connect" && database === "a") throw failure("3D000");
  });
  const pool = poolWith({ open });
  const one = (u: Unit) => run(pool, u, async () => 1);
  const outcomes = await Promise.all([one(unit("1")), one(unit("2")), one(unit("3", { database: "b" }))]);
  expect(outcomes.map((o) => o.kind)).toEqual(["failed", "failed", "done"]);
  expect(opened).toEqual(["a", "b"]);
});

test("without a further connection the open sessions do the work", async () => {
  let connections = 0;
  const { open } = server((sql) => {
    if (sql === "connect" && ++connections > 1) throw failure("53300");
  });
  const pool = poolWith({ open, jobs: 3 });
  const work = () => new Promise((resolve) => setTimeout(resolve, 5));
  const outcomes = await Promise.all(["1", "2", "3", "4"].map((name) => run(pool, unit(name), work)));
  expect(outcomes.map((o) => o.kind)).toEqual(["done", "done", "done", "done"]);
});

test("an abort ends every unit with its reason", async () => {
  const stop = new AbortController();
  const pool = poolWith({ signal: stop.signal });
  const running = run(pool, unit("1", { bytes: 2 }), async () => stop.abort(new Error("ended")));
  const waiting = run(pool, unit("2"), async () => 1);
  await expect(running).rejects.toThrow("ended");
  await expect(waiting).rejects.toThrow("ended");
  await expect(run(pool, unit("3"), async () => 1)).rejects.toThrow("ended");
});

describe("tools", () => {
  const need = (error: Error | null) => {
    const { open } = server((sql) => {
      if (error !== null && sql.includes("CREATE FUNCTION")) throw error;
    });
    return run(poolWith({ open }), unit("t"), (session) => session.need("amcheck"));
  };
  const missing = async (error: Error) => {
    const outcome = await need(error);
    return outcome.kind === "failed" && outcome.error instanceof ToolMissing;
  };
  test("a library or a right that is missing is no damage; a damaged catalog or a lock is no missing library", async () => {
    expect((await need(null)).kind).toBe("done");
    expect(await missing(failure("58P01", 'could not access file "$libdir/amcheck": No such file or directory'))).toBe(
      true,
    );
    expect(await missing(failure("42501"))).toBe(true);
    expect(await missing(failure("58P01", 'could not open file "base/5/1255": No such file or directory'))).toBe(false);
    expect(await missing(failure("XX002"))).toBe(false);
    expect(await missing(failure("55P03"))).toBe(false);
  });
});
