/** Connection strings and connections against a real PostgreSQL and the real libpq. */

import { execFileSync } from "node:child_process";
import { chmod, rename } from "node:fs/promises";
import { userInfo } from "node:os";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { RestoreError } from "../../lib/errors.ts";
import { type ConnectOptions, quoteIdentifier, quoteLiteral, sqlState, withDatabase } from "../../lib/io/database.ts";
import { type Conninfo, formatConninfo, parseConninfo } from "../../lib/postgres/conninfo.ts";
import { oddName, randomNumbers } from "../fixtures/odd-names.ts";
import { type Lab, openLab } from "../lab/lab.ts";

let lab: Lab;
/** Over the socket, as superuser. */
let admin: Conninfo;
/** Over TCP, to the name of the certificate. */
let tcp: Conninfo;

const HBA = `
local all all trust
hostssl tls_only all 127.0.0.1/32 trust
hostnossl plain_only all 127.0.0.1/32 trust
host with_password all 127.0.0.1/32 scram-sha-256
host tls_only,plain_only all 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
`;

beforeAll(async () => {
  lab = await openLab("connection");
  const port = String(await lab.freePort());
  const dataDir = lab.path("data");
  await lab.mustRun("initdb", [
    "-D",
    dataDir,
    "-U",
    "postgres",
    "-A",
    "trust",
    "-E",
    "UTF8",
    "--locale=C.UTF-8",
    "--no-sync",
  ]);
  await lab.mustRun("openssl", [
    ..."req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=localhost -addext subjectAltName=DNS:localhost".split(
      " ",
    ),
    ...["-keyout", `${dataDir}/server.key`, "-out", `${dataDir}/server.crt`],
  ]);
  await lab.mustRun("cp", [`${dataDir}/server.crt`, lab.path("root.crt")]);
  await lab.writeFile("data/pg_hba.conf", HBA, 0o600);
  const settings = { port, listen_addresses: "127.0.0.1", unix_socket_directories: lab.dir, ssl: "on", fsync: "off" };
  const service = lab.startService(
    "postgres",
    "postgres",
    ["-D", dataDir, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
    { deathSignal: "QUIT" },
  );
  await service.waitForLog(/database system is ready to accept connections/);
  admin = { host: lab.dir, port, user: "postgres", dbname: "postgres" };
  tcp = { host: "localhost", hostaddr: "127.0.0.1", port, user: "postgres", dbname: "postgres" };
  await withDatabase(admin, {}, async ({ query }) => {
    for (const name of ["tls_only", "plain_only", "with_password"]) await query(`CREATE DATABASE ${name}`);
    await query("CREATE ROLE guarded LOGIN PASSWORD 'p:w\\'");
    const me = userInfo().username;
    if (me !== "postgres") await query(`CREATE ROLE ${quoteIdentifier(me)} LOGIN`);
  });
});
afterAll(() => lab.close());
afterEach(() => vi.unstubAllEnvs());

const ask = async (conninfo: Conninfo, sql: string, options: ConnectOptions = {}) =>
  withDatabase(conninfo, options, async ({ row }) => Object.values(await row(sql))[0]);

const ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/** What libpq itself makes of a connection string. */
function psql(conninfo: string, sql: string): string {
  return execFileSync(`${lab.binDir}/psql`, ["-X", "-A", "-t", "-d", conninfo, "-c", sql], {
    encoding: "utf8",
    env: { PATH: process.env.PATH, PGCLIENTENCODING: "UTF8", HOME: "/nonexistent" },
  }).replace(/\n$/, "");
}

describe("odd names of databases and roles", () => {
  const random = randomNumbers(26);
  const names = [
    ...new Set([`Kunden "Süd" 'A'`, "a b", " ", "\\", "'", "=", ...Array.from({ length: 14 }, () => oddName(random))]),
  ];

  beforeAll(() =>
    withDatabase(admin, {}, async ({ query }) => {
      for (const name of names) {
        await query(`CREATE DATABASE ${quoteIdentifier(name)}`);
        await query(`CREATE ROLE ${quoteIdentifier(name)} LOGIN`);
      }
    }),
  );

  test.each(names)("%j is reached by us and by libpq alike", async (name) => {
    const conninfo = { ...admin, dbname: name, user: name };
    const formatted = formatConninfo(conninfo);
    const sql = "SELECT current_database() || '|' || current_user";
    expect(psql(formatted, sql)).toBe(`${name}|${name}`);
    expect(await ask(parseConninfo(formatted), sql)).toBe(`${name}|${name}`);
    expect(await ask(admin, "SELECT current_database()", { database: name })).toBe(name);
  });

  test.each(names.filter((name) => !/[\t\n]/.test(name)))(
    "%j as Patroni escapes it is the same for both",
    async (name) => {
      const escaped = name.replace(/['\\ ]/g, "\\$&");
      const dsn = `dbname=${escaped} user=postgres host=${lab.dir} port=${admin.port}`;
      expect(psql(dsn, "SELECT current_database()")).toBe(name);
      expect(await ask(parseConninfo(dsn), "SELECT current_database()")).toBe(name);
    },
  );

  test.each(names)("%j as a literal stays itself", async (name) => {
    expect(await ask(admin, `SELECT ${quoteLiteral(name)}`)).toBe(name);
  });
});

describe("answers", () => {
  test.each([
    {
      sql: "SELECT '2026-11-22 10:00:00.123456+00'::timestamptz",
      settings: { timezone: "UTC" },
      text: "2026-11-22 10:00:00.123456+00",
    },
    { sql: "SELECT 9223372036854775807", text: "9223372036854775807" },
    { sql: "SELECT 0.1::numeric(20, 10)", text: "0.1000000000" },
    { sql: "SELECT true", text: "t" },
    { sql: "SELECT '{\"a\": 1}'::jsonb", text: '{"a": 1}' },
    { sql: "SELECT ARRAY['a', 'b c']", text: '{a,"b c"}' },
    { sql: "SELECT '\\x00ff'::bytea", text: "\\x00ff" },
    { sql: "SELECT null::int", text: null },
  ])("$sql stays text", async ({ sql, text, settings }) => {
    expect(await ask(admin, sql, { settings })).toBe(text);
  });

  test("a row is one row", async () => {
    const rows = (sql: string) => withDatabase(admin, {}, ({ row }) => row(sql));
    await expect(rows("SELECT 1 WHERE false")).rejects.toThrow("expected one row, got 0");
    await expect(rows("SELECT generate_series(1, 2)")).rejects.toThrow("expected one row, got 2");
  });

  test("an error keeps its SQLSTATE", async () => {
    const error = await ask(admin, "SELECT * FROM nowhere").catch((thrown: unknown) => thrown);
    expect(sqlState(error)).toBe("42P01");
  });
});

describe("limits", () => {
  test("a statement that takes too long is ended by the server", async () => {
    const error = await ask(admin, "SELECT pg_sleep(60)", { statementTimeoutMs: 100 }).catch(
      (thrown: unknown) => thrown,
    );
    expect(sqlState(error)).toBe("57014");
  });

  test("a signal ends a statement and throws its own reason", async () => {
    const stop = new AbortController();
    const reason = new RestoreError("TERMINATED", "ended by SIGTERM");
    const call = withDatabase(admin, { signal: stop.signal }, async ({ query }) => {
      const sleeping = query("SELECT pg_sleep(60)");
      stop.abort(reason);
      await sleeping;
    });
    await expect(call).rejects.toBe(reason);
  });

  test("one that was aborted before connects nowhere", async () => {
    await expect(ask(admin, "SELECT 1", { signal: AbortSignal.abort(new Error("too late")) })).rejects.toThrow(
      "too late",
    );
  });

  test("the session is over when the call returns", async () => {
    await ask(admin, "SELECT 1", { applicationName: "leaves nothing" });
    const left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'leaves nothing'";
    await vi.waitFor(async () => expect(await ask(admin, left)).toBe("0"));
  });
});

describe("encryption, as libpq does it for each sslmode", () => {
  const accepted = [
    { why: "preferred by default", add: {}, encrypted: "t" },
    { why: "not at all", add: { sslmode: "disable" }, encrypted: "f" },
    { why: "only when the server insists", add: { sslmode: "allow" }, encrypted: "f" },
    { why: "always", add: { sslmode: "require" }, encrypted: "t" },
    { why: "the server insists", add: { dbname: "tls_only" }, encrypted: "t" },
    { why: "the server insists, and it is allowed", add: { dbname: "tls_only", sslmode: "allow" }, encrypted: "t" },
    { why: "the server refuses it, and it is only preferred", add: { dbname: "plain_only" }, encrypted: "f" },
  ];
  test.each(accepted)("$why: $encrypted", async ({ add, encrypted }) => {
    const conninfo = { ...tcp, ...add };
    expect(psql(formatConninfo(conninfo), ENCRYPTED)).toBe(encrypted);
    expect(await ask(conninfo, ENCRYPTED)).toBe(encrypted);
  });

  test.each([
    { why: "the server insists", add: { dbname: "tls_only", sslmode: "disable" } },
    { why: "the server refuses it", add: { dbname: "plain_only", sslmode: "require" } },
  ])("$why: no connection", async ({ add }) => {
    const error = await ask({ ...tcp, ...add }, ENCRYPTED).catch((thrown: unknown) => thrown);
    expect(sqlState(error)).toBe("28000");
  });

  test("a socket of the machine is never encrypted, whatever is asked for", async () => {
    expect(await ask({ ...admin, sslmode: "verify-full" }, ENCRYPTED)).toBe("f");
  });

  test("PGSSLMODE counts where the string says nothing", async () => {
    vi.stubEnv("PGSSLMODE", "disable");
    expect(await ask(tcp, ENCRYPTED)).toBe("f");
    expect(await ask({ ...tcp, sslmode: "require" }, ENCRYPTED)).toBe("t");
  });

  test("verify-full checks the name, verify-ca does not, and neither trusts a stranger", async () => {
    const root = { sslrootcert: lab.path("root.crt") };
    const wrongName = { ...tcp, host: "127.0.0.1" };
    expect(await ask({ ...tcp, ...root, sslmode: "verify-full" }, ENCRYPTED)).toBe("t");
    expect(await ask({ ...wrongName, ...root, sslmode: "verify-ca" }, ENCRYPTED)).toBe("t");
    await expect(ask({ ...wrongName, ...root, sslmode: "verify-full" }, ENCRYPTED)).rejects.toThrow(/altnames|IP/);
    await expect(ask({ ...tcp, sslmode: "verify-full", sslrootcert: "system" }, ENCRYPTED)).rejects.toThrow(
      /self.signed/,
    );
  });

  test.each([
    {
      add: { sslmode: "verify-full", sslrootcert: "/no/such/root.crt" },
      says: "cannot read sslrootcert /no/such/root.crt",
    },
    { add: { sslmode: "always" }, says: 'sslmode "always" is not one of libpq\'s' },
  ])("$says", async ({ add, says }) => {
    const error = await ask({ ...tcp, ...add }, "SELECT 1").catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "SETTINGS_INVALID", message: expect.stringContaining(says) });
  });
});

describe("several hosts", () => {
  const elsewhere = "/no/such/directory";

  test("are tried in order until one answers", async () => {
    const conninfo = { ...admin, host: `${elsewhere},${lab.dir}`, port: `1,${admin.port}` };
    expect(await ask(conninfo, "SELECT 1")).toBe("1");
    expect(psql(formatConninfo(conninfo), "SELECT 1")).toBe("1");
  });

  test("share one port", async () => {
    expect(await ask({ ...admin, host: `${elsewhere},${lab.dir}` }, "SELECT 1")).toBe("1");
  });

  test("when none answers every reason is told", async () => {
    const conninfo = { ...admin, host: `${elsewhere},127.0.0.1`, port: "1,1" };
    await expect(ask(conninfo, "SELECT 1")).rejects.toThrow(/ENOENT.*; .*ECONNREFUSED/);
  });

  test.each([
    { attribute: "any" },
    { attribute: "read-write" },
    { attribute: "primary" },
    { attribute: "prefer-standby" },
  ])("$attribute takes this primary", async ({ attribute }) => {
    expect(await ask({ ...admin, target_session_attrs: attribute }, "SELECT 1")).toBe("1");
  });

  test.each(["standby", "read-only"])("%s does not, and says why", async (attribute) => {
    const conninfo = { ...admin, target_session_attrs: attribute };
    await expect(ask(conninfo, "SELECT 1")).rejects.toThrow(
      `the server at ${lab.dir}:${admin.port} is not ${attribute}`,
    );
  });

  test("ports that do not match are an error of the settings", async () => {
    await expect(ask({ ...admin, host: "a,b,c", port: "1,2" }, "SELECT 1")).rejects.toThrow(
      "2 ports do not match 3 hosts",
    );
    await expect(ask({ ...admin, port: "x" }, "SELECT 1")).rejects.toThrow('port "x" is not a number from 1 to 65535');
  });
});

describe("who connects, and with which password", () => {
  const guarded = () => ({ ...tcp, dbname: "with_password", user: "guarded" });
  const passwordFile = async (name: string, line: string, mode = 0o600) => {
    const path = await lab.writeFile(`${name}.tmp`, line, mode);
    await rename(path, lab.path(name));
    await chmod(lab.path(name), mode);
    return lab.path(name);
  };

  test("without a user it is the operating system's, not $USER's: Patroni may give none", async () => {
    vi.stubEnv("USER", "somebody_else");
    const { user: _, ...nobody } = admin;
    expect(await ask(nobody, "SELECT current_user")).toBe(userInfo().username);
    vi.stubEnv("PGUSER", "postgres");
    expect(await ask(nobody, "SELECT current_user")).toBe("postgres");
  });

  test("the environment fills what the string leaves open", async () => {
    vi.stubEnv("PGHOST", lab.dir);
    vi.stubEnv("PGPORT", admin.port ?? "");
    vi.stubEnv("PGDATABASE", "tls_only");
    vi.stubEnv("PGOPTIONS", "-c work_mem=7MB");
    expect(await ask({ user: "postgres" }, "SELECT current_database() || current_setting('work_mem')")).toBe(
      "tls_only7MB",
    );
    expect(await ask({ user: "postgres", dbname: "postgres", host: "", port: "" }, "SELECT 1")).toBe("1");
  });

  test("the string's own password", async () => {
    expect(await ask({ ...guarded(), password: "p:w\\" }, "SELECT 1")).toBe("1");
    await expect(ask({ ...guarded(), password: "wrong" }, "SELECT 1")).rejects.toMatchObject({ code: "28P01" });
  });

  test("the file that PGPASSFILE names, written as Patroni writes it", async () => {
    const path = await passwordFile("pgpass", `localhost:${tcp.port}:*:guarded:p\\:w\\\\`);
    vi.stubEnv("PGPASSFILE", path);
    expect(await ask(guarded(), "SELECT 1")).toBe("1");
  });

  test("the file that the string names comes first", async () => {
    vi.stubEnv("PGPASSFILE", "/no/such/file");
    const passfile = await passwordFile("own", "*:*:*:*:p\\:w\\\\\n");
    expect(await ask({ ...guarded(), passfile }, "SELECT 1")).toBe("1");
  });

  test("a file that others may read is refused", async () => {
    const passfile = await passwordFile("open", "*:*:*:*:p\\:w\\\\\n", 0o644);
    await expect(ask({ ...guarded(), passfile }, "SELECT 1")).rejects.toThrow(/has group or world access/);
  });

  test("no password anywhere says so", async () => {
    vi.stubEnv("PGPASSFILE", "/no/such/file");
    await expect(ask(guarded(), "SELECT 1")).rejects.toThrow(`the server at localhost:${tcp.port} wants a password`);
  });
});

describe("what cannot be done is refused, because the connection would be another one", () => {
  test.each([
    { service: "main" },
    { requirepeer: "postgres" },
    { channel_binding: "require" },
    { gssencmode: "require" },
    { require_auth: "scram-sha-256" },
    { replication: "database" },
  ])("%j", async (add) => {
    const error = await ask({ ...admin, ...(add as Conninfo) }, "SELECT 1").catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: "SETTINGS_INVALID",
      message: expect.stringContaining("is not supported here"),
    });
  });

  test("also from the environment", async () => {
    vi.stubEnv("PGSERVICE", "main");
    await expect(ask(admin, "SELECT 1")).rejects.toThrow(
      'the environment variable PGSERVICE for "service" is not supported',
    );
  });
});
