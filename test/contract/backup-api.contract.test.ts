/** The sidecar as a process: its command line, its files, its network, its end. pgBackRest is real, its stanza is not there. */

import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { compiled, type RunningScript, runScript, type ScriptOptions, startScript } from "../fixtures/run-script.ts";

const TOKEN = "0123456789abcdef0123456789abcdef";
const OTHER = "fedcba9876543210fedcba9876543210";
const SCRIPT = compiled("backup-api");

let directory: string;
const at = (...parts: string[]) => join(directory, ...parts);
let states = 0;
const newState = () => at(`state-${states++}`);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "patroni-restore-api-"));
  await writeFile(
    at("pgbackrest.conf"),
    `[global]\nrepo1-path=${at("repo")}\nlock-path=${at("lock")}\nlog-path=${at("log")}\nspool-path=${at("spool")}\n` +
      `repo1-retention-full=1\n[nope]\npg1-path=${at("data")}\n[other]\npg1-path=${at("data")}\n`,
  );
  await writeFile(at("token"), `${TOKEN}\n`);
  for (const name of ["one", "two"]) await certificate(name);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** Of its own, for localhost. */
async function certificate(name: string): Promise<void> {
  await promisify(execFile)("openssl", [
    ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(" "),
    ...["-subj", `/CN=${name}`, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
    ...["-keyout", at(`${name}.key`), "-out", at(`${name}.crt`)],
  ]);
}

interface Running extends RunningScript {
  url: string;
  port: number;
  /** Everything it has logged so far. */
  logged(): string;
}

const runningApis: Running[] = [];
afterEach(async () => {
  for (const { child } of runningApis) child.kill("SIGKILL");
  await Promise.all(runningApis.splice(0).map(({ ended }) => ended));
});

const common = () => [
  "--pgbackrest-config",
  at("pgbackrest.conf"),
  "--listen",
  "127.0.0.1:0",
  "--stanza-setup",
  "skip",
];

async function startApi(
  args: readonly string[] = [],
  options: ScriptOptions & { bare?: boolean } = {},
): Promise<Running> {
  const stanza = options.bare ? [] : ["--stanza", "nope"];
  const stateDir = args.includes("--state-dir") ? [] : ["--state-dir", newState()];
  const script = startScript(SCRIPT, [...common(), ...stanza, ...stateDir, ...args], options);
  let text = "";
  script.child.stderr.on("data", (chunk: string) => {
    text += chunk;
  });
  const running = Object.assign(script, { url: "", port: 0, logged: () => text });
  runningApis.push(running);
  await script.printed("listens on ");
  // The rest of the line may come a moment later.
  while (!/listens on \S+:(\d+)\b/.test(text)) await later();
  const [, url = "", port = ""] = /listens on (https?:\/\/\S+?:(\d+))\b/.exec(text) ?? [];
  return Object.assign(running, {
    url: url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "127.0.0.1"),
    port: Number(port),
  });
}

const later = (ms = 20) => new Promise((resolve) => setTimeout(resolve, ms));

/** One that cannot be started. */
const refused = (args: readonly string[], options?: ScriptOptions) =>
  runScript(SCRIPT, [...common(), "--stanza", "nope", "--state-dir", newState(), ...args], options);

interface Got {
  status: number;
  headers: http.IncomingHttpHeaders;
  text: string;
  /** Of the certificate. */
  subject: string | undefined;
}

/** Without a library's own ideas of connections, certificates and methods. */
function ask(url: string, options: https.RequestOptions & { body?: string } = {}): Promise<Got> {
  const { request } = url.startsWith("https:") ? https : http;
  return new Promise((resolve, reject) => {
    const asked = request(url, { agent: false, rejectUnauthorized: false, ...options }, (response) => {
      let text = "";
      const socket = response.socket as Socket & { getPeerCertificate?(): { subject?: { CN?: string } } };
      const subject = socket.getPeerCertificate?.().subject?.CN;
      response.setEncoding("utf8").on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text, subject }));
      response.on("error", reject);
    });
    asked.on("error", reject);
    asked.end(options.body);
  });
}

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

describe("the command line", () => {
  test("--help shows what it is, its settings and examples", async () => {
    const { exitCode, stdout, stderr } = await runScript(SCRIPT, ["--help"]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    for (const word of [
      "--listen <HOST:PORT>",
      "--token-file",
      "--tls-cert-file",
      "--insecure",
      "schedules:",
      "curl",
    ]) {
      expect(stdout).toContain(word);
    }
    expect(stdout).not.toContain("--schedules");
  });

  test("a flag that is none", async () => {
    expect(await runScript(SCRIPT, ["--stanze", "x"])).toMatchObject({
      exitCode: 2,
      stdout: "",
      stderr: 'ERROR: [002]: SETTINGS_INVALID: unknown option --stanze\nHINT: did you mean "--stanza".\n',
    });
  });

  test("without a stanza", async () => {
    expect(await runScript(SCRIPT, common())).toMatchObject({
      exitCode: 2,
      stderr:
        "ERROR: [002]: SETTINGS_INVALID: --stanza is missing\n" +
        "HINT: give --stanza NAME, RESTORE_STANZA, PGBACKREST_STANZA or stanza in the settings file.\n",
    });
    expect((await runScript(SCRIPT, [...common(), "--stanza", " , "])).exitCode).toBe(2);
  });

  test("the stanza of pgBackRest's own environment is served", async () => {
    const api = await startApi([], { bare: true, env: { PGBACKREST_STANZA: "nope" } });
    expect(api.logged()).toContain("stanzas=nope");
  });

  test("several stanzas", async () => {
    const api = await startApi(["--stanza", "nope, other,nope"], { bare: true });
    expect(api.logged()).toContain("stanzas=nope,other");
    expect((await ask(`${api.url}/backups`, { method: "POST" })).text).toContain("stanza is missing");
  });

  test("a password in argv is refused and not repeated", async () => {
    const { exitCode, stderr } = await refused(["--conninfo", "host=h password=hunter2"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("--conninfo holds a password");
    expect(stderr).not.toContain("hunter2");
  });

  test.each(["8081", "localhost", "1.2.3.4:99999", "::1:8081"])("--listen %s is no place", async (listen) => {
    const { exitCode, stderr } = await refused(["--listen", listen]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`--listen: "${listen}" is not of the form HOST:PORT`);
  });
});

describe("what its settings file says wrong is told at once, with the line", () => {
  test("schedules", async () => {
    const file = at("schedules.yml");
    await writeFile(
      file,
      "stanza: nope\nrefresh: soon\nschedules:\n" +
        '  - { cron: "0 25 * * *", type: full }\n' +
        '  - { cron: "0 1 * * *", type: weekly }\n' +
        '  - { cron: "0 1 * * *", type: full, time_zone: Europe/Berln }\n' +
        '  - { cron: "0 0 30 2 *", type: full }\n' +
        '  - { cron: "0 1 * * *", type: full, timezone: UTC }\n' +
        "lisen: 127.0.0.1:1\n",
    );
    const { exitCode, stderr } = await runScript(SCRIPT, ["--config", file]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("7 problems were found");
    for (const said of [
      `${file}:2:1: refresh: "soon" is not a duration`,
      `${file}:3:1: schedules (0.cron): "0 25 * * *" is not a cron expression`,
      `${file}:3:1: schedules (1.type): `,
      `${file}:3:1: schedules (2.time_zone): "Europe/Berln" is not a time zone such as Europe/Berlin`,
      `${file}:3:1: schedules (3.cron): "0 0 30 2 *" never comes`,
      `${file}:3:1: schedules (4): `,
      `${file}:9:1: lisen is not a setting`,
    ]) {
      expect(stderr).toContain(said);
    }
  });

  test.each([
    {
      stanzas: "nope",
      schedule: "{ cron: 0 1 * * 0, type: full, stanza: x }",
      says: 'schedules: stanza "x" is not served',
    },
    { stanzas: "nope,other", schedule: "{ cron: 0 1 * * 0, type: full }", says: "schedules: stanza is missing" },
  ])("a schedule of no stanza: $says", async ({ stanzas, schedule, says }) => {
    const file = at("stanza.yml");
    await writeFile(file, `schedules:\n  - ${schedule}\n`);
    const { exitCode, stderr } = await refused(["--config", file, "--stanza", stanzas]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(says);
  });

  test.each([
    { text: "{ after: [full] }", says: "needs either config or url" },
    { text: "{ config: /a.yml, url: http://x/ }", says: "needs either config or url" },
    { text: "{ config: a.yml }", says: "is not an absolute path" },
    { text: "{ url: ftp://x/ }", says: "is not an http or https URL" },
  ])("restore_test $text", async ({ text, says }) => {
    const file = at("restore-test.yml");
    await writeFile(file, `restore_test: ${text}\n`);
    const { exitCode, stderr } = await refused(["--config", file]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`${file}:1:1: restore_test`);
    expect(stderr).toContain(says);
  });
});

describe("beyond loopback", () => {
  const token = () => ["--token-file", at("token")];
  const tls = () => ["--tls-cert-file", at("one.crt"), "--tls-key-file", at("one.key")];

  test.each(["0.0.0.0:0", ":0", "[::]:0", "*:0"])("%s needs token and TLS", async (listen) => {
    const { exitCode, stderr } = await refused(["--listen", listen]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("there is no --token-file and no --tls-cert-file and --tls-key-file");
    expect(stderr).toContain("--insecure");
  });

  test("a token alone could be read on the way, TLS alone keeps nobody out", async () => {
    const alone = await refused(["--listen", "0.0.0.0:0", ...token()]);
    expect(alone).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining("there is no --tls-cert-file and --tls-key-file\n"),
    });
    const other = await refused(["--listen", "0.0.0.0:0", ...tls()]);
    expect(other).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("there is no --token-file\n") });
  });

  test("with both it listens there, and says no warning", async () => {
    const api = await startApi(["--listen", "0.0.0.0:0", ...token(), ...tls()]);
    expect(api.url).toMatch(/^https:/);
    expect((await ask(`${api.url}/backups`)).status).toBe(401);
    expect((await ask(`${api.url}/backups`, bearer(TOKEN))).status).toBe(200);
    expect(api.logged()).not.toContain("--insecure");
  });

  test.each([
    { which: "nothing", args: [] as string[] },
    { which: "a token", args: ["token"] },
  ])("--insecure with $which listens and warns", async ({ args }) => {
    const api = await startApi(["--listen", "0.0.0.0:0", "--insecure", ...(args.length > 0 ? token() : [])]);
    expect(api.logged()).toContain("WARN  http: --insecure: whoever can reach this address");
    expect((await ask(`${api.url}/healthz`)).status).toBe(200);
  });
});

describe("tokens", () => {
  test.each([
    { what: "missing", text: undefined, says: /no such file|does not exist|ENOENT/ },
    { what: "empty", text: "\n", says: /holds no token/ },
    { what: "too short", text: "short\n", says: /less than 16 characters/ },
    { what: "not to be sent", text: "one two three four five\n", says: /no header can carry/ },
  ])("a file that is $what is told at the start", async ({ what, text, says }) => {
    const file = at(`bad-token-${what.replaceAll(" ", "-")}`);
    if (text !== undefined) await writeFile(file, text);
    const { exitCode, stderr } = await refused(["--token-file", file]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(file);
    expect(stderr).toMatch(says);
    expect(stderr).not.toContain("one two three");
  });

  test("are read again: both while both are there, then only the new one", async () => {
    const file = at("rotated");
    await writeFile(file, `${TOKEN}\n`);
    const api = await startApi(["--token-file", file, "--rate-limit", "1000"]);
    const statuses = async () =>
      Promise.all([TOKEN, OTHER].map(async (token) => (await ask(`${api.url}/backups`, bearer(token))).status));
    const reach = async (wanted: number[]) => {
      while ((await statuses()).join() !== wanted.join()) await later(50);
    };
    expect(await statuses()).toEqual([200, 401]);
    await writeFile(file, `${TOKEN}\n${OTHER}\n`);
    await reach([200, 200]);
    // As Kubernetes does it: another file is put in its place.
    await writeFile(at("next"), `${OTHER}\n`);
    await rename(at("next"), file);
    await reach([401, 200]);
    expect(api.logged()).not.toContain(OTHER);
  });

  test("a file that goes away lets nobody in, and the API lives", async () => {
    const file = at("vanishing");
    await writeFile(file, `${TOKEN}\n`);
    const api = await startApi(["--token-file", file, "--rate-limit", "1000"]);
    await rm(file);
    while ((await ask(`${api.url}/backups`, bearer(TOKEN))).status === 200) await later(50);
    const refusal = await ask(`${api.url}/backups`, bearer(TOKEN));
    expect(refusal.status).toBe(503);
    expect(JSON.stringify(refusal)).not.toContain(file);
    expect((await ask(`${api.url}/healthz`)).status).toBe(200);
    await writeFile(file, `${TOKEN}\n`);
    while ((await ask(`${api.url}/backups`, bearer(TOKEN))).status !== 200) await later(50);
  });
});

describe("TLS", () => {
  const files = (cert: string, key: string) => ["--tls-cert-file", at(cert), "--tls-key-file", at(key)];

  test.each([
    { what: "a key of another certificate", args: () => files("one.crt", "two.key") },
    { what: "no certificate", args: () => files("token", "one.key") },
    { what: "a file that is not there", args: () => files("none.crt", "one.key") },
  ])("$what is told at the start", async ({ args }) => {
    const { exitCode, stderr } = await refused(args());
    expect(exitCode).toBe(2);
    expect(stderr).toContain("cannot use");
    expect(stderr).toContain("the key must be the certificate's");
    expect(stderr).not.toContain("PRIVATE");
  });

  test("certificate and key go together", async () => {
    const { exitCode, stderr } = await refused(["--tls-cert-file", at("one.crt")]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("--tls-cert-file and --tls-key-file go together");
  });

  test("a new certificate is served without a restart, half of one is not", async () => {
    for (const kind of ["crt", "key"]) await writeFile(at(`live.${kind}`), await readFile(at(`one.${kind}`)));
    const api = await startApi(files("live.crt", "live.key"));
    expect(await ask(`${api.url}/healthz`)).toMatchObject({ status: 200, subject: "one" });
    await writeFile(at("live.crt"), await readFile(at("two.crt")));
    while (!api.logged().includes("the new certificate in")) await later(50);
    expect(await ask(`${api.url}/healthz`)).toMatchObject({ status: 200, subject: "one" });
    await writeFile(at("live.key"), await readFile(at("two.key")));
    while ((await ask(`${api.url}/healthz`)).subject !== "two") await later(100);
    expect(api.logged().match(/the new certificate in/g)).toHaveLength(1);
  });

  test("old protocols and plain HTTP get nothing, and do no harm", async () => {
    const api = await startApi(files("one.crt", "one.key"));
    await expect(ask(`${api.url}/healthz`, { maxVersion: "TLSv1.1", minVersion: "TLSv1" })).rejects.toThrow();
    await expect(ask(`${api.url.replace("https", "http")}/healthz`)).rejects.toThrow();
    expect((await ask(`${api.url}/healthz`)).status).toBe(200);
  });
});

describe("what it needs to itself", () => {
  test("a port that is taken", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => taken.once("listening", resolve));
    const { port } = taken.address() as AddressInfo;
    const { exitCode, stderr } = await refused(["--listen", `127.0.0.1:${port}`]);
    taken.close();
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`cannot listen on 127.0.0.1 port ${port}: another process listens there`);
  });

  test("an address that this machine does not have", async () => {
    const { exitCode, stderr } = await refused(["--listen", "192.0.2.1:0", "--insecure"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("this machine has no such address");
  });

  test("a state directory that cannot be one", async () => {
    const { exitCode, stderr } = await refused(["--state-dir", at("token", "state")]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`cannot keep a journal in ${at("token", "state")}: a part of the path is not a directory`);
    expect(stderr).toContain("--state-dir");
  });

  test("a state directory of somebody else", async ({ skip }) => {
    if (process.getuid?.() !== 0) skip("only root can become someone else");
    const state = newState();
    await mkdir(state, { mode: 0o755 });
    await chmod(directory, 0o755);
    const { exitCode, stderr } = await refused(["--state-dir", state], { user: { uid: 65_534, gid: 65_534 } });
    expect(exitCode).toBe(2);
    expect(stderr).toContain("permission denied");
  });

  test("a state directory that another one uses; after its end it is free, also when it was killed", async () => {
    const state = newState();
    const first = await startApi(["--state-dir", state]);
    const { exitCode, stderr } = await refused(["--state-dir", state]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`process ${first.child.pid} keeps its journal in ${state} already`);
    expect((await ask(`${first.url}/healthz`)).status).toBe(200);
    first.child.kill("SIGKILL");
    await first.ended;
    await startApi(["--state-dir", state]);
  });

  test("what it keeps is for its user alone", async () => {
    const state = newState();
    await startApi(["--state-dir", state]);
    expect(((await stat(join(state, "backup-api.jsonl"))).mode & 0o777).toString(8)).toBe("600");
    expect((await stat(state)).mode & 0o007).toBe(0);
  });

  test("a journal with half a line at its end is told and used", async () => {
    const state = newState();
    await mkdir(state, { recursive: true });
    await writeFile(join(state, "backup-api.jsonl"), '{"label":"2026112301');
    const api = await startApi(["--state-dir", state]);
    expect(api.logged()).toContain("1 lines cannot be read and are left out");
    expect((await ask(`${api.url}/backups`)).text).toBe("[]\n");
  });
});

describe("with a real pgBackRest whose stanza is not there", () => {
  test("/info is 503 with pgBackRest's words", async () => {
    const api = await startApi();
    const { status, text } = await ask(`${api.url}/info`);
    expect(status).toBe(503);
    expect(JSON.parse(text)).toMatchObject({
      ok: false,
      problems: ['stanza "nope": missing stanza path (code 1) in repo1'],
      stanzas: [{ name: "nope", status: { code: 1, message: "missing stanza path" } }],
    });
  });

  test("/readyz and /wal are 503 as well, /healthz is not", async () => {
    const api = await startApi(["--stanza-setup", "check"]);
    const ready = async () => ask(`${api.url}/readyz`);
    // Both are asked side by side, and each may be the first to say.
    for (const reason of ["pgbackrest check failed", "missing stanza path (code 1)"]) {
      while (!(await ready()).text.includes(reason)) await later(50);
    }
    expect((await ready()).status).toBe(503);
    expect((await ask(`${api.url}/wal`)).status).toBe(503);
    expect((await ask(`${api.url}/healthz`)).status).toBe(200);
  });

  test("/metrics has its status", async () => {
    const api = await startApi();
    await ask(`${api.url}/info`);
    const { status, text, headers } = await ask(`${api.url}/metrics`);
    expect(status).toBe(200);
    expect(headers["content-type"]).toContain("version=0.0.4");
    expect(text).toContain('pgbackrest_stanza_status{stanza="nope"} 1\n');
    expect(text).toContain('pgbackrest_exporter_status{stanza="nope"} 1\n');
  });

  test("a backup fails at once with pgBackRest's error and a hint, and is remembered over a restart", async () => {
    const state = newState();
    const first = await startApi(["--state-dir", state]);
    const { status, text, headers } = await ask(`${first.url}/backups/`, {
      method: "POST",
      body: '{"type": "full"}',
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
    expect(status).toBe(500);
    const failed = JSON.parse(text);
    expect(failed).toMatchObject({
      status: "ERROR",
      returncode: 55,
      error: expect.stringContaining("[055]: unable to load info file"),
      hint: "the stanza may not have been created: pgbackrest --stanza=nope stanza-create",
    });
    expect(headers.location).toBe(`/backups/backup/${failed.label}`);
    while (!(await readFile(join(state, "backup-api.jsonl"), "utf8")).includes('"status":"ERROR"')) await later();
    first.child.kill("SIGKILL");
    await first.ended;
    const second = await startApi(["--state-dir", state]);
    expect(JSON.parse((await ask(`${second.url}${headers.location}`)).text)).toMatchObject({
      status: "ERROR",
      error: failed.error,
    });
  });

  test("an expire says the error that counts, a verify that there is nothing", async () => {
    const api = await startApi();
    const expire = await ask(`${api.url}/expire`, { method: "POST" });
    expect(expire.status).toBe(500);
    expect(JSON.parse(expire.text).error).toMatch(
      /^pgbackrest expire ended with code 104: \[055\]: repo1: unable to load/,
    );
    const verify = await ask(`${api.url}/verify`, { method: "POST" });
    expect(verify.status).toBe(500);
    expect(JSON.parse(verify.text)).toMatchObject({ returncode: 0, output: expect.arrayContaining(["status: error"]) });
  });

  test("a pgBackRest that is not installed is told by everything that needs it", async () => {
    const api = await startApi([], { env: { PATH: "/nonexistent" } });
    expect(await ask(`${api.url}/info`)).toMatchObject({
      status: 503,
      text: expect.stringContaining('cannot run \\"pgbackrest\\": not found'),
    });
    expect((await ask(`${api.url}/backups`, { method: "POST" })).status).toBe(500);
    expect((await ask(`${api.url}/backups`)).headers["x-repository-error"]).toContain("not found");
  });
});

describe("clients", () => {
  const say = (port: number, text: string) =>
    new Promise<string>((resolve, reject) => {
      let heard = "";
      const socket = connect(port, "127.0.0.1", () => socket.write(text));
      socket.setEncoding("utf8").on("data", (chunk) => {
        heard += chunk;
      });
      socket.on("close", () => resolve(heard));
      socket.on("error", reject);
    });

  test.each([
    "nonsense\r\n\r\n",
    "GET / HTTP/9.9\r\n\r\n",
    "GET /\u0001 HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /backups HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
  ])("%j gets 400", async (text) => {
    const api = await startApi();
    expect(await say(api.port, text)).toMatch(/^HTTP\/1\.1 400 /);
    expect((await ask(`${api.url}/healthz`)).status).toBe(200);
  });

  test("headers without end are too many", async () => {
    const api = await startApi();
    const answer = await say(api.port, `GET / HTTP/1.1\r\nHost: x\r\nX: ${"x".repeat(20_000)}\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 431 /);
  });

  test("slow ones do not keep others waiting", async () => {
    const api = await startApi(["--rate-limit", "1000"]);
    const slow = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const socket = connect(api.port, "127.0.0.1");
        await new Promise((resolve) => socket.once("connect", resolve));
        socket.on("error", () => {});
        socket.write("POST /backups HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
        return socket;
      }),
    );
    expect((await ask(`${api.url}/healthz`, { timeout: 5000 })).status).toBe(200);
    for (const socket of slow) socket.destroy();
    expect((await ask(`${api.url}/healthz`)).status).toBe(200);
  });

  test("a body in pieces, without its length, is read and has a limit", async () => {
    const api = await startApi();
    const chunked = { method: "POST", headers: { "transfer-encoding": "chunked" } };
    expect(await ask(`${api.url}/backups`, { ...chunked, body: '{"type": "ful"}' })).toMatchObject({
      status: 400,
      text: expect.stringContaining("type is not one of full, diff, incr"),
    });
    expect((await ask(`${api.url}/backups`, { ...chunked, body: " ".repeat(20_000) })).status).toBe(413);
    const long = { method: "POST", headers: { "content-length": "20000" }, body: " ".repeat(20_000) };
    expect((await ask(`${api.url}/backups`, long)).status).toBe(413);
    expect(JSON.parse((await ask(`${api.url}/backups`)).text)).toEqual([]);
  });

  test.each(["DELETE", "HEAD", "PUT", "OPTIONS"])("%s without a body gets its answer", async (method) => {
    const api = await startApi();
    const { status } = await ask(`${api.url}/backups/backup/20261123010000`, { method });
    expect(status).toBe(method === "DELETE" || method === "HEAD" ? 404 : 405);
    expect((await ask(`${api.url}/healthz`)).status).toBe(200);
  });

  test("more than --rate-limit in a second are put off", async () => {
    const api = await startApi(["--rate-limit", "5"]);
    const all = await Promise.all(Array.from({ length: 20 }, () => ask(`${api.url}/healthz`)));
    expect(all.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(10);
    expect(all.find(({ status }) => status === 429)?.headers["retry-after"]).toBe("1");
  });
});

describe("the end", () => {
  test.each([
    { signal: "SIGTERM", exitCode: 143 },
    { signal: "SIGINT", exitCode: 130 },
  ] as const)("$signal ends it with $exitCode, in order", async ({ signal, exitCode }) => {
    const api = await startApi();
    api.child.kill(signal);
    const ended = await api.ended;
    expect(ended).toMatchObject({ exitCode, signal: null, stdout: "" });
    expect(ended.stderr).toContain("stop: nothing runs");
    expect(ended.stderr).not.toContain("cut short");
  });

  test("clients that keep their connections do not keep it", async () => {
    const api = await startApi();
    const agent = new http.Agent({ keepAlive: true });
    await Promise.all(Array.from({ length: 5 }, () => ask(`${api.url}/healthz`, { agent })));
    const silent = connect(api.port, "127.0.0.1");
    const half = connect(api.port, "127.0.0.1", () => half.write("GET /healthz HTTP/1.1\r\n"));
    for (const socket of [silent, half]) socket.on("error", () => {});
    await new Promise((resolve) => half.once("connect", resolve));
    api.child.kill("SIGTERM");
    expect((await api.ended).exitCode).toBe(143);
    agent.destroy();
    silent.destroy();
    half.destroy();
  });

  test("it takes no more connections", async () => {
    const api = await startApi();
    api.child.kill("SIGTERM");
    await api.ended;
    await expect(ask(`${api.url}/healthz`)).rejects.toThrow("ECONNREFUSED");
  });
});

test("--log-format json: every line is an object, and no token is in it", async () => {
  const api = await startApi(["--log-format", "json", "--token-file", at("token")]);
  for (const token of [TOKEN, OTHER]) {
    await ask(`${api.url}/backups?token=${token}`, { method: "POST", ...bearer(token) });
    await ask(`${api.url}/backups`, { method: "POST", ...bearer(token) });
  }
  api.child.kill("SIGTERM");
  const { stderr } = await api.ended;
  const lines = stderr.trimEnd().split("\n");
  // The last one is the error that ended it, as of every script.
  const events = lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
  expect(lines.filter((line) => !line.startsWith("{"))).toEqual(["ERROR: [143]: TERMINATED: ended by SIGTERM"]);
  for (const event of events)
    expect(event).toMatchObject({ at: expect.any(String), level: expect.any(String), phase: expect.any(String) });
  expect(events).toContainEqual(expect.objectContaining({ phase: "http", message: "POST /backups", status: 500 }));
  expect(stderr).not.toContain(TOKEN);
  expect(stderr).not.toContain(OTHER);
});
