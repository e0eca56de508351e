import { describe, expect, test } from "vitest";
import { isAuthorized, parseTokens } from "../../../lib/http/tokens.ts";

const OLD = "0123456789abcdef0123456789abcdef";
const NEW = "fedcba9876543210fedcba9876543210";

describe("the token file", () => {
  test("holds one on each line, with and without a last line's end", () => {
    expect(parseTokens(OLD)).toEqual([OLD]);
    expect(parseTokens(`${OLD}\n${NEW}\n`)).toEqual([OLD, NEW]);
    expect(parseTokens(`\r\n  ${OLD}\t\r\n\n${NEW}\r\n`)).toEqual([OLD, NEW]);
  });

  test.each(["", "\n", "  \r\n\t\n"])("%j holds none", (text) => {
    expect(() => parseTokens(text)).toThrow("holds no token");
  });

  test("one of 16 characters is long enough, one of 15 is not, even beside a good one", () => {
    expect(parseTokens("x".repeat(16))).toHaveLength(1);
    expect(() => parseTokens("x".repeat(15))).toThrow("less than 16 characters");
    expect(() => parseTokens(`${OLD}\nshort\n`)).toThrow("openssl rand -hex 32");
  });

  test.each([`token ${OLD}`, `Bearer ${OLD}`, "ключключключключ"])("%j could never be sent", (text) => {
    expect(() => parseTokens(text)).toThrow("no header can carry");
  });

  test("what is wrong with it does not repeat it", () => {
    for (const text of ["geheim", "geheim geheim geheim geheim"]) {
      expect(() => parseTokens(text)).toThrow(expect.not.stringContaining("geheim"));
    }
  });
});

describe("who is authorized", () => {
  test.each([`Bearer ${OLD}`, `bearer ${OLD}`, `BEARER  ${OLD}`, `Bearer ${NEW}`])("%s", (header) => {
    expect(isAuthorized(header, [OLD, NEW])).toBe(true);
  });

  test.each([
    undefined,
    "",
    OLD,
    "Bearer",
    "Bearer ",
    `Basic ${OLD}`,
    `Bearer${OLD}`,
    `Bearer ${OLD} `,
    `Bearer ${OLD}x`,
    `Bearer ${OLD.slice(1)}`,
    `Bearer ${OLD.toUpperCase()}`,
    `Bearer ${OLD},${NEW}`,
    `Bearer ${OLD} ${NEW}`,
    `X Bearer ${OLD}`,
  ])("not %j", (header) => {
    expect(isAuthorized(header, [OLD, NEW])).toBe(false);
  });

  test("nobody when there are no tokens", () => {
    expect(isAuthorized(`Bearer ${OLD}`, [])).toBe(false);
  });

  test("any token of the file, every one that is not in it is not", () => {
    expect(isAuthorized(`Bearer ${OLD}`, [NEW])).toBe(false);
    expect(isAuthorized("Bearer ÄÖÜ", [OLD])).toBe(false);
  });
});
