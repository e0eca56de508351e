import { describe, expect, test } from "vitest";
import { formatListen, isLoopback, listenProblems, parseListen } from "../../../lib/http/listen.ts";

describe("HOST:PORT", () => {
  test.each([
    { text: "127.0.0.1:8081", host: "127.0.0.1", port: 8081 },
    { text: "localhost:1", host: "localhost", port: 1 },
    { text: "[::1]:8081", host: "::1", port: 8081 },
    { text: "[fe80::1]:65535", host: "fe80::1", port: 65_535 },
    { text: ":8081", host: "::", port: 8081 },
    { text: "*:8081", host: "::", port: 8081 },
    { text: "0.0.0.0:0", host: "0.0.0.0", port: 0 },
    { text: "db-1.example.org:8081", host: "db-1.example.org", port: 8081 },
  ])("$text", ({ text, host, port }) => {
    expect(parseListen(text)).toEqual({ host, port });
    expect(parseListen(formatListen({ host, port }))).toEqual({ host, port });
  });

  test.each([
    "",
    "8081",
    "127.0.0.1",
    "127.0.0.1:",
    "127.0.0.1:65536",
    "::1:8081",
    "a:b",
    "http://x:1",
    "a b:1",
    "x:-1",
  ])("not %j", (text) => {
    expect(() => parseListen(text)).toThrow("is not of the form HOST:PORT, such as 127.0.0.1:8081");
  });
});

test.each(["127.0.0.1", "127.1.2.3", "::1", "localhost"])("%s is this machine alone", (host) => {
  expect(isLoopback(host)).toBe(true);
});
test.each([
  "0.0.0.0",
  "::",
  "10.0.0.1",
  "::ffff:127.0.0.1",
  "127.0.0.1.example.org",
  "localhost.example.org",
  "1127.0.0.1",
  "",
])("%j may be reached from elsewhere", (host) => {
  expect(isLoopback(host)).toBe(false);
});

describe("protection", () => {
  const combinations = [false, true].flatMap((hasToken) =>
    [false, true].flatMap((hasTls) => [false, true].map((isInsecure) => ({ hasToken, hasTls, isInsecure }))),
  );

  test.each(combinations)("on loopback nothing is needed: %o", (protection) => {
    expect(listenProblems({ host: "127.0.0.1", port: 8081 }, protection)).toEqual([]);
  });

  test.each(combinations)("beyond it token and TLS, or --insecure: %o", (protection) => {
    const { hasToken, hasTls, isInsecure } = protection;
    const [problem] = listenProblems({ host: "0.0.0.0", port: 8081 }, protection);
    expect(problem === undefined).toBe(isInsecure || (hasToken && hasTls));
    if (problem === undefined) return;
    expect(problem.message).toContain("--listen 0.0.0.0:8081 is reachable from other machines");
    expect(problem.message.includes("--token-file")).toBe(!hasToken);
    expect(problem.message.includes("--tls-cert-file and --tls-key-file")).toBe(!hasTls);
    expect(problem.hint).toContain("--insecure");
  });

  test("every address is not loopback, however it is written", () => {
    const none = { hasToken: false, hasTls: false, isInsecure: false };
    for (const text of [":8081", "*:8081", "[::]:8081", "0.0.0.0:8081"]) {
      expect(listenProblems(parseListen(text), none), text).toHaveLength(1);
    }
  });
});
