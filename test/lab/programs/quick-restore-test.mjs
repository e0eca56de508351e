/**
 * Stands where restore-test stands, takes a second or two and restores nothing: for tests of the scheduler alone. What two
 * of them for one service would do to each other is seen by a directory that only one can make.
 */
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

const config = readFileSync(process.argv[2].slice("--config=".length), "utf8");
const setting = (name) => new RegExp(`^${name}: "?(.*?)"?$`, "m").exec(config)?.[1];
const stanza = setting("stanza");
const report = setting("report");
const place = dirname(setting("work_dir"));
const lock = `${place}/runs-${stanza}`;
const trace = (line) => appendFileSync(`${place}/trace`, `${line}\n`);
const log = (phase, message) =>
  console.error(JSON.stringify({ at: new Date().toISOString(), level: "info", phase, message }));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

try {
  mkdirSync(lock);
} catch {
  trace(`OVERLAP ${stanza}`);
}
trace(`begin ${stanza} ${process.pid}`);
const started = new Date();
const phases = [];
function end(verdict, error) {
  const text = JSON.stringify({
    ...{ schema_version: 1, id: "quick", scope: null, stanza, started_at: started.toISOString() },
    ...{
      finished_at: new Date().toISOString(),
      verdict,
      target: null,
      receipt_id: null,
      backup: null,
      recovered: null,
    },
    ...{ phases, checks: [], coverage: {}, rto_ms: Date.now() - started.getTime(), rpo_ms: null, error, versions: {} },
  });
  writeFileSync(`${report}.new`, text);
  renameSync(`${report}.new`, report);
  trace(`end ${stanza} ${process.pid}`);
  rmdirSync(lock);
  process.exit(verdict === "healthy" ? 0 : 20);
}
process.on("SIGTERM", () => end("error", { code: 143, name: "TERMINATED", message: "ended by SIGTERM", hint: null }));
for (const name of ["restore", "recovery", "verify"]) {
  const began = Date.now();
  log(name, "begins");
  await sleep(200 + Math.random() * 500);
  phases.push({ name, started_at: new Date(began).toISOString(), duration_ms: Date.now() - began });
}
end("healthy", null);
