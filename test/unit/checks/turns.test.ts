import { describe, expect, test } from "vitest";
import { Turns } from "../../../lib/checks/turns.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("turns", () => {
  test("what is asked of one database comes in a row, whoever asks", async () => {
    const turns = new Turns(1);
    const seen: string[] = [];
    const ask = (check: string) =>
      turns.each(["a", "b", "c"], async (database) => {
        await turn();
        seen.push(`${database}${check}`);
        return `${check} of ${database}`;
      });
    const answers = await Promise.all([ask("1"), ask("2"), ask("3")]);
    expect(seen.join(" ")).toBe("a1 a2 a3 b1 b2 b3 c1 c2 c3");
    expect(answers[1]).toEqual(["2 of a", "2 of b", "2 of c"]);
  });

  test("what is asked later joins in where it can, and the rest comes after", async () => {
    const turns = new Turns(1);
    const seen: string[] = [];
    let late: Promise<unknown> | undefined;
    await turns.each(["a", "b", "c"], async (database) => {
      if (database === "b") {
        late = turns.each(["a", "b", "c"], async (name) => {
          seen.push(`${name}2`);
        });
      }
      seen.push(`${database}1`);
    });
    await late;
    expect(seen.join(" ")).toBe("a1 b1 b2 c1 c2 a2");
  });

  test("no more at the same time than allowed, and as many, also in the last database", async () => {
    const turns = new Turns(2);
    let now = 0;
    let most = 0;
    const together: string[][] = [];
    const running: string[] = [];
    const ask = () =>
      turns.each(["a", "b", "c"], async (database) => {
        most = Math.max(most, ++now);
        running.push(database);
        together.push([...running]);
        for (let i = 0; i < 5; i++) await turn();
        running.splice(running.indexOf(database), 1);
        now--;
      });
    await Promise.all([ask(), ask(), ask(), ask()]);
    expect(most).toBe(2);
    const ownWay = together.filter(([first, second]) => first !== undefined && first === second);
    expect(new Set(ownWay.flat())).toEqual(new Set(["c"]));
  });

  test("an exception stops the start of more of that question only, and is thrown when all have ended", async () => {
    const turns = new Turns(1);
    const seen: string[] = [];
    const fails = turns.each(["a", "b", "c"], async (database) => {
      seen.push(`${database}1`);
      if (database === "b") throw new Error("of b");
    });
    const goesOn = turns.each(["a", "b", "c"], async (database) => {
      seen.push(`${database}2`);
    });
    await expect(fails).rejects.toThrow("of b");
    await goesOn;
    expect(seen.join(" ")).toBe("a1 a2 b1 b2 c2");
  });

  test("nothing to ask is no wait", async () => {
    expect(await new Turns(2).each([], async () => 1)).toEqual([]);
  });
});
