import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { answerProblems, joinTexts, readAnswer } from "../../../lib/backup-api/info.ts";
import { answer, MISSING_STANZA, set } from "./samples.ts";

const captured = readFileSync(new URL("../../fixtures/pgbackrest-info-2.45.json", import.meta.url), "utf8");
const SYSTEM_ID = "7711147517477380914";

const problemsOf = (...args: Parameters<typeof answer>) =>
  answerProblems(answer(...args)).map(({ message }) => message);
const repo = (key: number, code: number, message: string) => ({ cipher: "none", key, status: { code, message } });

describe("what is wrong, by status codes alone", () => {
  test("nothing", () => {
    expect(answerProblems(readAnswer("main", captured))).toEqual([]);
    expect(problemsOf("main", [set("20261123-010000F")])).toEqual([]);
  });

  test("a stanza that is missing", () => {
    expect(answerProblems(readAnswer("nope", MISSING_STANZA))).toMatchObject([
      { message: 'stanza "nope": missing stanza path (code 1) in repo1' },
    ]);
  });

  test("a stanza that the answer does not have", () => {
    expect(answerProblems(readAnswer("other", MISSING_STANZA))).toMatchObject([
      { message: 'stanza "other" is not known to pgBackRest' },
    ]);
    expect(answerProblems(readAnswer("other", "[]"))).toHaveLength(1);
  });

  test("a stanza without any backup", () => {
    expect(problemsOf("main", [])).toEqual(['stanza "main": no valid backups (code 2) in repo1']);
  });

  test("one broken repository of two: a copy less, although pgBackRest would go on", () => {
    const broken = {
      repo: [repo(1, 0, "ok"), repo(2, 99, "[CryptoError] unable to flush\n  HINT: cipher")],
      status: { code: 4, lock: { backup: { held: false } }, message: "different across repos" },
    };
    expect(problemsOf("main", [set("20261123-010000F")], broken)).toEqual([
      'stanza "main": [CryptoError] unable to flush (code 99) in repo2',
    ]);
  });

  test("two broken repositories are two", () => {
    const broken = { repo: [repo(1, 1, "missing stanza path"), repo(2, 99, "other")] };
    expect(problemsOf("main", [], broken)).toHaveLength(2);
  });

  test("a stanza that is wrong although each repository is right", () => {
    const different = { repo: [repo(1, 0, "ok"), repo(2, 0, "ok")], status: { code: 5, message: "database mismatch" } };
    expect(problemsOf("main", [set("20261123-010000F")], different)).toEqual([
      'stanza "main": database mismatch (code 5)',
    ]);
  });

  test("a pgBackRest that does not know of several repositories", () => {
    expect(problemsOf("main", [], { repo: undefined })).toEqual(['stanza "main": no valid backups (code 2)']);
  });
});

describe("an answer that is none", () => {
  test.each(["", "ERROR: [055]", "{}", "null", '[{"name":"main"}]'])("%j throws", (text) => {
    expect(() => readAnswer("main", text)).toThrow();
  });
});

describe("pgBackRest's own text", () => {
  const stanza = (name: string) => `[{"name":"${name}","db":[{"system-id":${SYSTEM_ID}}]}]`;
  const texts = (...names: string[]) => names.map((name) => ({ ...readAnswer("x", "[]"), text: `${stanza(name)}\n` }));

  test("keeps a system identifier beyond 2^53", () => {
    expect(Number(SYSTEM_ID)).toBeGreaterThan(2 ** 53);
    expect(joinTexts([readAnswer("main", captured)])).toMatch(new RegExp(`"system-id": *${SYSTEM_ID}\\b`));
    expect(joinTexts(texts("a", "b")).split(SYSTEM_ID)).toHaveLength(3);
  });

  test("of several stanzas is one array", () => {
    expect(JSON.parse(joinTexts(texts("a", "b", "c"))).map(({ name }: { name: string }) => name)).toEqual([
      "a",
      "b",
      "c",
    ]);
  });

  test("of one stanza is what pgBackRest wrote", () => {
    expect(JSON.parse(joinTexts([readAnswer("main", captured)]))).toEqual(JSON.parse(captured));
  });

  test.each([{ texts: ["[]"] }, { texts: ["[]\n", " [ ] "] }, { texts: [] }])(
    "of nothing is an empty array: $texts",
    ({ texts }) => {
      expect(JSON.parse(joinTexts(texts.map((text) => ({ ...readAnswer("x", "[]"), text }))))).toEqual([]);
    },
  );

  test("a stanza that says nothing leaves no hole", () => {
    const empty = { ...readAnswer("x", "[]"), text: "[]" };
    const [a, b] = texts("a", "b");
    expect(JSON.parse(joinTexts([a, empty, b].filter((one) => one !== undefined)))).toHaveLength(2);
  });
});
