import { expect, test } from "vitest";
import { explainConnectionError, isConnectionLost } from "../../../lib/postgres/connection-error.ts";

const TCP = { host: "db1", port: "5433", user: "postgres" };

const failure = (code: string, message = "driver's words") => Object.assign(new Error(message), { code });

test.each([
  ["ECONNREFUSED", "connection to db1 port 5433 was refused"],
  ["ENOTFOUND", 'host name "db1" cannot be resolved'],
  ["EAI_AGAIN", 'host name "db1" cannot be resolved'],
  ["ETIMEDOUT", "no answer from db1 port 5433"],
  ["EHOSTUNREACH", "no route to db1 port 5433"],
  ["ECONNRESET", "the connection to db1 port 5433 was lost"],
  ["57P01", "the connection to db1 port 5433 was ended by the server: it stops or restarts"],
])("%s reads: %s", (code, sentence) => {
  expect(explainConnectionError(failure(code), TCP).message).toBe(sentence);
});

test.each([
  ["28P01", 'password authentication failed for user "x"'],
  ["28000", 'no pg_hba.conf entry for host "192.0.2.1"'],
  ["3D000", 'database "x" does not exist'],
  ["57P03", "the database system is starting up"],
  ["53300", "sorry, too many clients already"],
])("the server's own words for %s are kept", (code, message) => {
  expect(explainConnectionError(failure(code, message), TCP).message).toBe(message);
});

test("pg_hba.conf is blamed only for what it does", () => {
  const hint = (message: string) => explainConnectionError(failure("28000", message), TCP).hint;
  expect(hint("kein pg_hba.conf-Eintrag für Host »192.0.2.1«")).toContain("does not let this user in");
  expect(hint('role "x" does not exist')).toBe(undefined);
});

test("a socket directory is named with the socket's file", () => {
  expect(explainConnectionError(failure("ENOENT"), { host: "/run/pg", port: "5433" }).message).toBe(
    "no server listens on /run/pg/.s.PGSQL.5433",
  );
});

test("of the failures of several addresses the first is told", () => {
  const error = new AggregateError([failure("ECONNREFUSED"), failure("ECONNREFUSED")]);
  expect(explainConnectionError(error, TCP).message).toBe("connection to db1 port 5433 was refused");
});

test("node-postgres's own errors without a code are understood", () => {
  const of = (message: string) => explainConnectionError(new Error(message), TCP).message;
  expect(of("Connection terminated unexpectedly")).toBe("the connection to db1 port 5433 was lost");
  expect(of("timeout expired")).toBe("no answer from db1 port 5433 within the limit");
  expect(of("SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string")).toBe(
    "db1 port 5433 asks for a password and none was given",
  );
});

test("a statement that failed on a good connection is not a lost connection", () => {
  expect(isConnectionLost(failure("42P01"))).toBe(false);
  expect(isConnectionLost(failure("57014"))).toBe(false);
  expect(isConnectionLost(failure("57P01"))).toBe(true);
  expect(isConnectionLost(failure("ECONNRESET"))).toBe(true);
  expect(isConnectionLost(failure("EPIPE"))).toBe(true);
  expect(isConnectionLost(new Error("Connection terminated unexpectedly"))).toBe(true);
});
