import { describe, expect, test } from "vitest";
import { judge, type Pass, type Result, totals, type Verdict } from "../../lab/damage/judge.ts";
import type { Kind } from "../../lab/damage/kind.ts";
import { ALL_KINDS, isOnlyWithAll, SHORT_RUN } from "../../lab/damage/kinds/index.ts";
import { items, LP, setItem } from "../../lab/damage/pages.ts";

const kind = (more: Partial<Kind> = {}): Kind => ({
  name: "a kind",
  area: "heap",
  damage: async () => {},
  caughtBy: ["heap"],
  level: "standard",
  withoutReceipt: "full",
  ...more,
});
const verdict = (pass: Pass, outcome: Verdict["outcome"]): Verdict => ({
  pass,
  exitCode: outcome === "healthy" ? 0 : 20,
  outcome,
  by: outcome === "healthy" ? [] : ["heap"],
  findings: [],
  message: "",
  ms: 1,
});
const full = { level: "full", receipt: true } as const;

describe("a verdict on damage", () => {
  test.each([
    [full, "caught", "right"],
    [full, "healthy", "missed"],
    [full, "broken", "broken"],
    [{ level: "full", receipt: false }, "healthy", "missed"],
    [{ level: "standard", receipt: true }, "healthy", "missed"],
    [{ level: "standard", receipt: false }, "healthy", "not asked"],
    [{ level: "standard", receipt: false }, "caught", "more than asked"],
    [{ level: "quick", receipt: true }, "healthy", "not asked"],
  ] as const)("%j, %s: %s", (pass, outcome, expected) => {
    expect(judge(kind(), verdict(pass, outcome))).toBe(expected);
  });

  test("only the receipt can tell: without it nothing is asked", () => {
    expect(judge(kind({ withoutReceipt: null }), verdict({ level: "full", receipt: false }, "healthy"))).toBe(
      "not asked",
    );
  });

  test("a sound instance must be healthy at every level", () => {
    const sound = kind({ area: "sound", level: null, withoutReceipt: null });
    expect(judge(sound, verdict(full, "healthy"))).toBe("right");
    expect(judge(sound, verdict({ level: "quick", receipt: true }, "caught"))).toBe("false alarm");
  });

  test("totals count damage and false alarms apart", () => {
    const result = (of: Kind, outcome: Verdict["outcome"]): Result => ({
      kind: of,
      problem: null,
      damageMs: 1,
      verdicts: [verdict(full, outcome)],
      rivals: [{ rival: "the seed", caught: false, by: [], message: "", ms: 1 }],
    });
    const results = [result(kind(), "caught"), result(kind(), "healthy"), result(kind({ area: "sound" }), "caught")];
    expect(Object.fromEntries(totals(results))).toEqual({
      "full + receipt": { caught: 1, of: 2, falseAlarms: 1, sound: 1 },
      "the seed": { caught: 0, of: 2, falseAlarms: 0, sound: 1 },
    });
  });
});

describe("the kinds", () => {
  test("have names of their own, a check that must catch them, and more in the long run than in the short one", () => {
    const names = ALL_KINDS.map(({ area, name }) => `${area} ${name}`);
    expect(new Set(names).size).toBe(names.length);
    expect(SHORT_RUN.length).toBeGreaterThan(45);
    expect(ALL_KINDS.some(isOnlyWithAll)).toBe(true);
    for (const { area, level, caughtBy } of ALL_KINDS) {
      expect(level === null).toBe(area === "sound");
      expect(caughtBy.length > 0).toBe(area !== "sound");
    }
  });
});

test("line pointers are read as they are written", () => {
  const page = Buffer.alloc(8192);
  page.writeUInt16LE(24 + 8, 12);
  const item = { number: 2, offset: 8000, flags: LP.NORMAL, length: 120 };
  setItem(page, item);
  expect(items(page)).toEqual([{ number: 1, offset: 0, flags: LP.UNUSED, length: 0 }, item]);
});
