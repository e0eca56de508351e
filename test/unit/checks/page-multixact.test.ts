import { describe, expect, test } from "vitest";
import { inRange, lostMultis } from "../../../lib/checks/data/page-multixact.ts";
import type { Session } from "../../../lib/checks/session.ts";

const range = { oldest: 1, next: 5000 };

class ServerError extends Error {
  readonly code: string;
  constructor(code: string) {
    super(`error ${code}`);
    this.code = code;
  }
}

/** Answers by multixact: a code is an error, `nobody` is no member, `nowhere` is a position that is zero. */
function server(answers: Readonly<Record<number, string>>) {
  let asked = 0;
  const query = async (sql: string) => {
    asked++;
    const multis = (/'\{([\d,]*)\}'/.exec(sql)?.[1] ?? "").split(",").map(Number);
    const such = (answer: string) => multis.filter((m) => answers[m] === answer).map((m) => ({ multi: String(m) }));
    if (sql.includes("pg_read_binary_file")) return such("nowhere");
    if (such("nowhere").length > 0) throw new ServerError("57014");
    const code = multis.map((m) => answers[m]).find((answer) => answer !== undefined && answer !== "nobody");
    if (code !== undefined) throw new ServerError(code);
    return such("nobody");
  };
  return { session: { query } as unknown as Session, asked: () => asked };
}

const all = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

describe("multixacts without members", () => {
  test("none: a thousand are one question", async () => {
    const { session, asked } = server({});
    expect(await lostMultis(session, all(2000), range)).toEqual(new Map());
    expect(asked()).toBe(2);
  });

  test.each([
    ["nobody", "nobody is in it"],
    ["XX001", "error XX001 (SQLSTATE XX001)"],
    ["58P01", "error 58P01 (SQLSTATE 58P01)"],
    ["nowhere", "its place in pg_multixact/members is not known"],
  ])("one among many: %s", async (answer, why) => {
    const { session } = server({ 777: answer });
    expect([...(await lostMultis(session, all(1000), range))]).toEqual([[777, expect.stringContaining(why)]]);
  });

  test("of very many, a few are told apart", async () => {
    const { session, asked } = server(Object.fromEntries(all(3000).map((m) => [m, "XX001"])));
    expect((await lostMultis(session, all(3000), range)).size).toBe(20);
    expect(asked()).toBeLessThan(100);
  });

  test.each(["57014", "57P01", "42501"])("what says nothing of them (%s) is no finding", async (code) => {
    await expect(lostMultis(server({ 3: code }).session, all(5), range)).rejects.toThrow(code);
  });
});

test.each([
  [1, 1, 5, true],
  [4, 1, 5, true],
  [5, 1, 5, false],
  [1, 2, 5, false],
  [4294967290, 4294967000, 7, true],
  [3, 4294967000, 7, true],
])("%i from %i to %i: %s", (multi, oldest, next, is) => {
  expect(inRange(multi, { oldest, next })).toBe(is);
});
