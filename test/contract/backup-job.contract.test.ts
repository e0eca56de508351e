/**
 * The script of patroni-templates/kubernetes/backup-scripts.yml, with sh and curl, against a server that answers by a
 * list: the sequences that a real API shows once in a year.
 */

import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { renderObject } from "../fixtures/kubernetes-templates.ts";
import { startProgram } from "../fixtures/run-script.ts";

const TOKEN = "a-token-that-nobody-sees";
const LABEL = "20261123010000";
const PATH = `/backups/backup/${LABEL}`;
const OTHER = "/backups/backup/20261123005900";

let directory: string;
let script: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "patroni-restore-job-"));
  script = join(directory, "backup-job.sh");
  await writeFile(script, renderObject("backup-scripts.yml").data["backup-job.sh"]);
  await writeFile(join(directory, "token"), `${TOKEN}\nthe-one-before\n`);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

interface Answer {
  status: number;
  location?: string;
  body?: string;
}

type Step = [request: RegExp, answer: Answer | "no answer" | "connection lost"];

/** As the API prints it: indented by 4, keys sorted; what pgBackRest says has types and states of its own. */
function details(status: string, type = "full"): string {
  const pgbackrest = { label: "20261122-010000F_20261123-010000I", status: "none", type: "incr" };
  return `${JSON.stringify({ label: LABEL, pgbackrest, returncode: null, status, type }, null, 4)}\n`;
}

const is = (status: string, type?: string): Answer => ({ status: 200, body: details(status, type) });
const started: Answer = { status: 202, location: PATH, body: details("RUNNING") };
const busy: Answer = { status: 409, location: OTHER, body: '{\n    "error": "backup in progress"\n}\n' };
const refused = (status: number, error: string): Answer => ({ status, body: JSON.stringify({ error }) });

const POST = /^POST \/backups \{"type":"full"\}$/;
const GET = new RegExp(`^GET ${PATH}\\?wait=\\d+ $`);
const GET_OTHER = new RegExp(`^GET ${OTHER}\\?wait=\\d+ $`);

/** What one Job made of these answers. Requests come one by one, so the list is their order. */
async function run(steps: Step[], env: Record<string, string> = {}, tls?: { key: string; cert: string }) {
  const requests: string[] = [];
  const commandLines: string[] = [];
  const listener: RequestListener = async (request, response) => {
    commandLines.push(...curlCommandLines());
    let body = "";
    for await (const chunk of request) body += chunk;
    const line = `${request.method} ${request.url} ${body}`;
    const [expected, answer] = steps[requests.length] ?? [/never/, { status: 418, body: `not expected: ${line}` }];
    requests.push(request.headers.authorization === `Bearer ${TOKEN}` ? line : `without token: ${line}`);
    if (!expected.test(line)) return response.writeHead(418).end(`${line} is not ${expected}`);
    if (answer === "no answer") return;
    if (answer === "connection lost") return request.socket.destroy();
    response.writeHead(answer.status, answer.location === undefined ? {} : { Location: answer.location });
    response.end(answer.body);
  };
  const server = tls ? createSecureServer(tls, listener) : createServer(listener);
  const port = await listen(server, 0);
  const ended = await job(`${tls ? "https://localhost" : "http://127.0.0.1"}:${port}`, env).ended;
  return { ...ended, requests: requests.length, sent: requests, commandLines };
}

async function listen(server: Server, port: number): Promise<number> {
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const job = (url: string, env: Record<string, string> = {}) =>
  startProgram("/bin/sh", [script], {
    env: {
      BACKUP_API: url,
      BACKUP_TYPE: "full",
      TOKEN_FILE: join(directory, "token"),
      MAX_RETRIES: "3",
      RETRY_SECONDS: "0",
      POLL_SECONDS: "2",
      DEADLINE_SECONDS: "25",
      ...env,
    },
  });

/** The arguments and the environment of every curl that runs now, as anybody on the node can list the former. */
function curlCommandLines(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const commandLine = readFileSync(`/proc/${pid}/cmdline`, "utf8");
        if (!commandLine.startsWith("curl\0")) return [];
        return [`${commandLine} ${readFileSync(`/proc/${pid}/environ`, "utf8")}`];
      } catch {
        return []; // ended meanwhile
      }
    });
}

describe("exit code 0, when the backup that was wanted is finished", () => {
  test.each<{ name: string; steps: Step[] }>([
    {
      name: "it runs, and is waited for",
      steps: [
        [POST, started],
        [GET, is("RUNNING")],
        [GET, is("FINISHED")],
      ],
    },
    { name: "it ended within the first second", steps: [[POST, is("FINISHED")]] },
    {
      name: "another one is waited for first, whatever becomes of it",
      steps: [
        [POST, busy],
        [GET_OTHER, is("RUNNING", "incr")],
        [GET_OTHER, is("ERROR")],
        [POST, started],
        [GET, is("FINISHED")],
      ],
    },
    {
      name: "another one of the same type is not what was asked for",
      steps: [
        [POST, busy],
        [GET_OTHER, is("FINISHED")],
        [POST, started],
        [GET, is("FINISHED")],
      ],
    },
    {
      name: "the answer was lost, and the one that runs is it",
      steps: [
        [POST, "connection lost"],
        [POST, busy],
        [GET_OTHER, is("FINISHED")],
      ],
    },
    {
      name: "the answer was lost, and the one that runs is of another type",
      steps: [
        [POST, "connection lost"],
        [POST, busy],
        [GET_OTHER, is("FINISHED", "diff")],
        [POST, is("FINISHED")],
      ],
    },
    {
      name: "the answer was lost, and the one that ran failed",
      steps: [
        [POST, { status: 504 }],
        [POST, busy],
        [GET_OTHER, is("ERROR")],
        [POST, is("FINISHED")],
      ],
    },
    {
      name: "too many requests, and an API that is just starting",
      steps: [
        [POST, refused(429, "too many")],
        [POST, refused(503, "starting")],
        [POST, started],
        [GET, is("FINISHED")],
      ],
    },
    {
      name: "the API restarts while it is waited for, and still knows the label",
      steps: [
        [POST, started],
        [GET, "connection lost"],
        [GET, { status: 502, body: "<html>Bad Gateway</html>" }],
        [GET, { status: 503 }],
        [GET, is("FINISHED")],
      ],
    },
    {
      name: "more outages than retries, but never so many in a row",
      steps: [
        [POST, started],
        ...[0, 1].flatMap((): Step[] => [
          [GET, { status: 503 }],
          [GET, { status: 503 }],
          [GET, is("RUNNING")],
        ]),
        [GET, is("FINISHED")],
      ],
    },
    {
      name: "another primary, which does not know that backup: it is asked for one",
      steps: [
        [POST, started],
        [GET, refused(404, "no such backup")],
        [POST, started],
        [GET, is("FINISHED")],
      ],
    },
    {
      name: "a Location with a host in it: the token goes to BACKUP_API all the same",
      steps: [
        [POST, { ...started, location: `https://elsewhere.example.com${PATH}` }],
        [GET, is("FINISHED")],
      ],
    },
  ])("$name", async ({ steps }) => {
    const { exitCode, stdout, stderr, requests, sent } = await run(steps);
    expect({ exitCode, requests }, `${sent.join("\n")}\n${stdout}${stderr}`).toEqual({
      exitCode: 0,
      requests: steps.length,
    });
    expect(stdout).toContain('"status": "FINISHED"');
    expect(sent.filter((line) => line.startsWith("without token"))).toEqual([]);
  });

  test("nobody listens for a moment", async () => {
    const server = createServer((_, response) => response.end(details("FINISHED")));
    const port = await listen(server, 0);
    await new Promise((resolve) => server.close(resolve));
    const running = job(`http://127.0.0.1:${port}`, { RETRY_SECONDS: "1" });
    await running.printed("no answer (curl exit code 7), trying again (1 of 3)");
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    const { exitCode, stdout, stderr } = await running.ended;
    expect(exitCode, stdout + stderr).toBe(0);
  });

  test("a stanza is passed on", async () => {
    const { exitCode } = await run([[/^POST \/backups \{"type":"diff","stanza":"shop"\}$/, is("FINISHED")]], {
      BACKUP_TYPE: "diff",
      BACKUP_STANZA: "shop",
    });
    expect(exitCode).toBe(0);
  });
});

describe("exit code 1, with the reason and the API's answer", () => {
  test.each<{ name: string; steps: Step[]; stderr: (RegExp | string)[] }>([
    {
      name: "the backup failed",
      steps: [
        [POST, started],
        [GET, is("ERROR")],
      ],
      stderr: [`ERROR: the full backup ended with status ERROR: ${PATH}`, '    "status": "ERROR"'],
    },
    {
      name: "it was cancelled",
      steps: [
        [POST, started],
        [GET, is("CANCELLED")],
      ],
      stderr: ["ended with status CANCELLED"],
    },
    {
      name: "it failed within the first second",
      steps: [[POST, { status: 500, body: details("ERROR") }]],
      stderr: ["ended with status ERROR", '    "status": "ERROR"'],
    },
    {
      name: "the token is refused, at once",
      steps: [[POST, refused(401, "no such token")]],
      stderr: ["ERROR: the token was refused (401)", "HINT: the first line of ", "no such token"],
    },
    {
      name: "the request is refused, at once",
      steps: [[POST, refused(400, "unknown type")]],
      stderr: ["ERROR: the backup was refused (400)", "unknown type"],
    },
    {
      name: "the outage lasts",
      steps: Array.from({ length: 4 }, (): Step => [POST, refused(503, "no primary")]),
      stderr: [/answer 503, 4 times in a row/, "no primary"],
    },
    {
      name: "backups are forgotten again and again",
      steps: Array.from({ length: 3 }, (): Step[] => [
        [POST, started],
        [GET, refused(404, "unknown")],
      ]).flat(),
      stderr: ["forgot 3 backups"],
    },
    {
      name: "something else answers",
      steps: [[POST, { status: 200, body: "<html>Welcome</html>" }]],
      stderr: ["has no status", "<html>Welcome</html>"],
    },
    {
      name: "there is no Location",
      steps: [[POST, { status: 202, body: "{}" }]],
      stderr: ["the answer 202 has no Location"],
    },
  ])("$name", async ({ steps, stderr: expected }) => {
    const { exitCode, stdout, stderr, requests, sent } = await run(steps);
    expect({ exitCode, requests }, `${sent.join("\n")}\n${stdout}${stderr}`).toEqual({
      exitCode: 1,
      requests: steps.length,
    });
    for (const text of expected) expect(stderr).toMatch(typeof text === "string" ? new RegExp(escaped(text)) : text);
  });

  test("the deadline is reached while it runs: nothing is cancelled", async () => {
    const steps: Step[] = [[POST, started], ...Array.from({ length: 9 }, (): Step => [GET, is("RUNNING")])];
    const { exitCode, stderr, sent } = await run(steps, { DEADLINE_SECONDS: "2" });
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`ERROR: no finished full backup within 2 s: ${PATH}\nHINT: nothing was cancelled`);
    expect(stderr).toContain('    "status": "RUNNING"');
    expect(sent.filter((line) => line.startsWith("DELETE"))).toEqual([]);
  });

  test("the deadline is reached although the API answers nothing", async () => {
    const began = Date.now();
    const { exitCode, stderr } = await run([[POST, "no answer"]], { DEADLINE_SECONDS: "2" });
    expect(exitCode).toBe(1);
    expect(stderr).toContain("ERROR: no finished full backup within 2 s");
    expect(Date.now() - began).toBeLessThan(6000);
  });

  test.each([
    { name: "no token file", env: { TOKEN_FILE: "/nowhere/token" }, text: "first line of /nowhere/token" },
    {
      name: "no CA file",
      env: { CA_FILE: "/nowhere/ca.crt" },
      text: "the CA file /nowhere/ca.crt cannot be read",
    },
    { name: "no URL", env: { BACKUP_API: "" }, text: "BACKUP_API" },
  ])("$name: nothing is sent", async ({ env, text }) => {
    const { exitCode, stderr, requests } = await run([], env);
    expect({ requests, failed: exitCode !== 0 }).toEqual({ requests: 0, failed: true });
    expect(stderr).toContain(text);
  });
});

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

test("the token is in no argument and no variable of curl", async () => {
  const { exitCode, commandLines, stdout, stderr } = await run([
    [POST, busy],
    [GET_OTHER, is("FINISHED")],
    [POST, started],
    [GET, is("FINISHED")],
  ]);
  expect(exitCode).toBe(0);
  const own = commandLines.filter((line) => line.includes("/backups"));
  expect(own.length).toBeGreaterThanOrEqual(4);
  expect(own.join("\n") + stdout + stderr).not.toContain(TOKEN);
});

test("the API's certificate is checked against CA_FILE", async () => {
  const certificate = async (name: string) => {
    const [key, cert] = [join(directory, `${name}.key`), join(directory, `${name}.crt`)];
    const options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost";
    const subject = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert];
    await promisify(execFile)("openssl", [...options.split(" "), ...subject]);
    return { file: cert, key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
  };
  const [own, other] = [await certificate("own"), await certificate("other")];
  expect(await run([[POST, is("FINISHED")]], { CA_FILE: own.file }, own)).toMatchObject({ exitCode: 0, requests: 1 });
  const mistrusted = await run([], { CA_FILE: other.file }, own);
  expect(mistrusted).toMatchObject({ exitCode: 1, requests: 0 });
  expect(mistrusted.stderr).toMatch(/ERROR: the certificate of https:\/\/localhost:\d+ is not trusted\nHINT: /);
});
