import { describe, expect, test } from "vitest";
import { combineProblems, EXIT_CODES, formatError, messageOf, RestoreError, reportError } from "../../lib/errors.ts";

describe("an error's text", () => {
  test("reads as pgBackRest's own, with a hint on its own line", () => {
    const error = new RestoreError("TARGET_UNREACHED", "recovery ended at 0/3000028, before the target", {
      hint: "choose an earlier target",
    });
    expect(formatError(error)).toBe(
      "ERROR: [013]: TARGET_UNREACHED: recovery ended at 0/3000028, before the target\nHINT: choose an earlier target.",
    );
  });

  test("is one line without a hint", () => {
    expect(formatError(new RestoreError("INTERRUPTED", "ended by SIGINT"))).toBe(
      "ERROR: [130]: INTERRUPTED: ended by SIGINT",
    );
  });

  test.each(Object.entries(EXIT_CODES))("%s ends the process with %i and says so in three digits", (name, code) => {
    const error = new RestoreError(name as keyof typeof EXIT_CODES, "why");
    expect(error.exitCode).toBe(code);
    expect(formatError(error)).toContain(`[${String(code).padStart(3, "0")}]: ${name}: why`);
  });

  test("exit codes are all different, and none is 0 or the 1 of a bug", () => {
    const codes = Object.values(EXIT_CODES);
    expect(new Set(codes).size).toBe(codes.length);
    expect(Math.min(...codes)).toBe(2);
  });
});

describe("an error in a report", () => {
  test("keeps code, name, message and hint", () => {
    const error = new RestoreError("RESTORE_FAILED", "pgBackRest exited with code 55", { hint: "look at its log" });
    expect(reportError(error)).toEqual({
      code: 11,
      name: "RESTORE_FAILED",
      message: "pgBackRest exited with code 55",
      hint: "look at its log",
    });
  });

  test.each([
    { thrown: new TypeError("x is undefined"), message: "x is undefined" },
    { thrown: "a string", message: "a string" },
    { thrown: undefined, message: "undefined" },
  ])("is INTERNAL for $message", ({ thrown, message }) => {
    expect(reportError(thrown)).toEqual({ code: 1, name: "INTERNAL", message, hint: null });
  });
});

describe("messageOf is never empty", () => {
  const refused = (address: string) => new Error(`connect ECONNREFUSED ${address}`);

  test.each([
    { thrown: new Error("why"), text: "why" },
    {
      // What Node throws for a refused connection to "localhost" with two addresses.
      thrown: new AggregateError([refused("::1:5432"), refused("127.0.0.1:5432")]),
      text: "connect ECONNREFUSED ::1:5432; connect ECONNREFUSED 127.0.0.1:5432",
    },
    { thrown: new AggregateError([refused("::1:5432"), refused("::1:5432")]), text: "connect ECONNREFUSED ::1:5432" },
    { thrown: Object.assign(new Error(""), { code: "EPIPE" }), text: "EPIPE" },
    { thrown: new RangeError(""), text: "RangeError" },
  ])("$text", ({ thrown, text }) => {
    expect(messageOf(thrown)).toBe(text);
  });
});

describe("several problems as one error", () => {
  test("one problem stays itself", () => {
    const error = combineProblems("PREFLIGHT_FAILED", [{ message: "no stanza", hint: "create it" }]);
    expect([error.message, error.hint]).toEqual(["no stanza", "create it"]);
  });

  test("are the host's only when each of them is", () => {
    const host = { message: "no space", about: "host" } as const;
    const backup = { message: "WAL is missing" };
    const about = (...problems: Parameters<typeof combineProblems>[1]) =>
      reportError(combineProblems("PREFLIGHT_FAILED", problems)).about;
    expect([about(host), about(host, host)]).toEqual(["host", "host"]);
    expect([about(), about(backup), about(host, backup), about(backup, host)]).toEqual(Array(4).fill(undefined));
  });

  test("many are a list in which each keeps its hint", () => {
    const error = combineProblems("SETTINGS_INVALID", [{ message: "a is b" }, { message: "c is d", hint: "use e" }]);
    expect(formatError(error)).toBe(
      "ERROR: [002]: SETTINGS_INVALID: 2 problems were found\n  - a is b\n  - c is d\n      HINT: use e.",
    );
  });
});
