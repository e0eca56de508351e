/**
 * `npm run demo`: the whole of it on this machine, with real parts. A service under load is backed up and restored to an
 * exact time through Patroni, and proven; then the two ways to be deceived are tried, and both must be refused.
 */

import { readFile } from "node:fs/promises";
import { chalk } from "zx";
import { EXIT_CODES } from "../../lib/errors.ts";
import type { Report } from "../../lib/report/report.ts";
import { startEtcd } from "./etcd.ts";
import type { Lab } from "./lab.ts";
import type { RunResult } from "./process.ts";
import {
  APP_DATABASE,
  archiveWal,
  backup,
  createStanza,
  loadSchema,
  markAndWait,
  now,
  query,
  type Source,
  startLoad,
  startPatroniSource,
} from "./source.ts";
import { heading, say, step, stop, tell } from "./tell.ts";

/** 10 is 150 MB. */
const SCALE = 10;

/** What a restore test has to end with, in the report and in its own words. */
interface Expectation {
  title: string;
  exitCode: number;
  verdict: Report["verdict"];
  /** In what restore-test prints. */
  words: RegExp;
}

async function story(lab: Lab): Promise<boolean> {
  heading("A service: PostgreSQL under Patroni, archiving to a pgBackRest repository");
  const etcd = await step("etcd", () => startEtcd(lab));
  const source = await step("Patroni, PostgreSQL", () => startPatroniSource(lab, etcd, { stanza: "demo" }));
  await step("data: pgbench and a schema with the usual variety", () => loadSchema(lab, source, { scale: SCALE }));
  await step("stanza", () => createStanza(lab, source));
  const load = await step("load: 50 transactions a second, from now on", () => startLoad(lab, source));
  await step("full backup", () => backup(lab, source, "full"));
  await step("incremental backup", () => backup(lab, source, "incr"));
  say(`  ${(await query(source, SIZE, { database: APP_DATABASE }))[0]?.words}`);

  const restoreTest = (name: string, ...args: string[]) => runRestoreTest(lab, source, etcd.endpoint, name, args);
  const results: boolean[] = [];

  heading("1. The restore test: mark the source, restore to that instant through Patroni, prove it");
  results.push(
    await restoreTest("healthy", "--source", source.conninfo).then((ended) =>
      judge(ended, { title: "a healthy restore", exitCode: 0, verdict: "healthy", words: /healthy/i }),
    ),
  );

  heading("2. A target that the archive does not reach: the WAL ends before it");
  say("  the load stops, all WAL is archived, and the target is a moment after the last commit");
  await load.stop();
  await archiveWal(source);
  const unreachable = await now(source);
  results.push(
    await restoreTest("unreached", "--restore-target-time", unreachable).then((ended) =>
      judge(ended, {
        title: "a target that cannot be reached",
        exitCode: EXIT_CODES.TARGET_UNREACHED,
        verdict: "error",
        words: /TARGET_UNREACHED/,
      }),
    ),
  );

  heading("3. A marker that is gone: the restore is not what the receipt promises");
  say("  the source is marked, the marker and its fence are deleted, and the target is later than that");
  const { file } = await markAndWait(lab, source, "receipt-of-the-lost-marker", { signal: stop.signal });
  await query(source, "DELETE FROM patroni_restore.marker; DELETE FROM patroni_restore.fence");
  const later = await markAndWait(lab, source, "receipt-after", { signal: stop.signal });
  const target = later.receipt.target.time;
  results.push(
    await restoreTest("no-marker", "--receipt", file, "--restore-target-time", target).then((ended) =>
      judge(ended, {
        title: "a restore without its marker",
        exitCode: EXIT_CODES.UNHEALTHY,
        verdict: "unhealthy",
        words: /marker[^\n]*(missing|not there|absent|not found)/i,
      }),
    ),
  );
  return results.every(Boolean);
}

const SIZE = `
  SELECT format('%s in %s, %s relations, newest transaction %s', pg_size_pretty(sum(pg_database_size(oid))),
    string_agg(quote_ident(datname), ', '), (SELECT count(*) FROM pg_class), clock_timestamp()) AS words
  FROM pg_database WHERE NOT datistemplate`;

interface Ended extends RunResult {
  report: Report | undefined;
}

/** Shows what it prints as it comes. */
async function runRestoreTest(
  lab: Lab,
  source: Source,
  etcd: string,
  name: string,
  args: readonly string[],
): Promise<Ended> {
  const report = lab.path("log", `${name}.report.json`);
  await lab.makeDirectory("work");
  await lab.makeDirectory("log");
  const settings = [
    `--stanza=${source.stanza}`,
    `--pgbackrest-config=${source.pgbackrestConfig}`,
    "--level=standard",
    "--runner=patroni",
    `--etcd=${etcd}`,
    `--work-dir=${lab.path("work")}`,
    `--report=${report}`,
  ];
  say(chalk.dim(`  $ restore-test ${[...args, ...settings].map(shown).join(" ")}\n`));
  const result = await lab.runScript("restore-test", [...args, ...settings], {
    signal: stop.signal,
    onOutput: (text, from) => process[from].write(text),
  });
  stop.signal.throwIfAborted();
  const written = await readFile(report, "utf8").catch(() => undefined);
  return { ...result, report: written === undefined ? undefined : JSON.parse(written) };
}

function judge(ended: Ended, expected: Expectation): boolean {
  const said = ended.stdout + ended.stderr;
  const problems = [
    ended.exitCode === expected.exitCode ? "" : `exit code ${ended.exitCode} instead of ${expected.exitCode}`,
    ended.report?.verdict === expected.verdict
      ? ""
      : `verdict ${ended.report?.verdict ?? "(no report)"} instead of ${expected.verdict}`,
    expected.words.test(said) ? "" : `it does not say ${expected.words}`,
  ].filter((problem) => problem !== "");
  const exit = `exit code ${ended.exitCode}, verdict ${ended.report?.verdict}, ${Math.round(ended.durationMs / 1000)} s`;
  if (problems.length === 0) say(`\n  ${chalk.green("as expected")}: ${expected.title}: ${exit}`);
  else say(`\n  ${chalk.red("NOT as expected")}: ${expected.title}: ${problems.join("; ")}`);
  return problems.length === 0;
}

const shown = (argument: string) => (/[\s']/.test(argument) ? `"${argument}"` : argument);

await tell("demo", "one healthy restore, two refused", story);
