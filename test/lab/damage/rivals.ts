/** What exists already, asked about the same copy with the same commands its users give. */

import { quoteLiteral } from "../../../lib/io/database.ts";
import { formatConninfo, parseConninfo } from "../../../lib/postgres/conninfo.ts";
import type { RunResult } from "../process.ts";
import { query } from "../source.ts";
import type { Instance } from "./instance.ts";
import type { RivalVerdict } from "./judge.ts";

export const RIVALS = ["the seed", "pgbackrest_auto"] as const;

const LIMIT_MS = 180_000;

interface Complaint {
  by: string;
  message: string;
}

/** The instance is stopped, and afterwards too. */
export async function askRivals(instance: Instance): Promise<RivalVerdict[]> {
  const offline = await timed(() => checksums(instance));
  const verdicts: RivalVerdict[] = [];
  const conclude = (rival: string, parts: readonly { complaints: Complaint[]; ms: number }[]) => {
    const complaints = parts.flatMap((part) => part.complaints);
    verdicts.push({
      rival,
      caught: complaints.length > 0,
      by: [...new Set(complaints.map((complaint) => complaint.by))],
      message: complaints.map(({ by, message }) => `${by}: ${message.slice(-300)}`).join("\n"),
      ms: parts.reduce((sum, part) => sum + part.ms, 0),
    });
  };
  let conninfo: string;
  try {
    conninfo = await instance.start();
  } catch (error) {
    const complaints = [{ by: "start", message: String(error) }];
    conclude(RIVALS[0], [{ complaints, ms: 0 }]);
    conclude(RIVALS[1], [offline, { complaints, ms: 0 }]);
    return verdicts;
  }
  conclude(RIVALS[0], [await timed(() => seed(instance, conninfo))]);
  conclude(RIVALS[1], [offline, await timed(() => auto(instance, conninfo))]);
  await instance.stop();
  return verdicts;
}

async function timed(work: () => Promise<Complaint[]>): Promise<{ complaints: Complaint[]; ms: number }> {
  const started = performance.now();
  const complaints = await work();
  return { complaints, ms: Math.round(performance.now() - started) };
}

/** Marker row, pg_dump --schema-only of every database, pg_dumpall --globals-only. */
async function seed(instance: Instance, conninfo: string): Promise<Complaint[]> {
  const marker = await query(
    { conninfo },
    `SELECT 1 FROM patroni_restore.marker WHERE id = ${quoteLiteral(instance.receipt.id)}`,
  ).then(
    (rows) => (rows.length === 1 ? [] : [{ by: "marker", message: "the marker is missing" }]),
    (error) => [{ by: "marker", message: String(error) }],
  );
  const globals = await run(instance, "pg_dumpall", [
    "--globals-only",
    "--no-sync",
    "--file=/dev/null",
    `--dbname=${conninfo}`,
  ]);
  return [...marker, ...(await dumpEach(instance, conninfo, ["--schema-only"])), ...complaintOf("pg_dumpall", globals)];
}

async function checksums(instance: Instance): Promise<Complaint[]> {
  return complaintOf("pg_checksums", await run(instance, "pg_checksums", ["--check", "-D", instance.datadir]));
}

/** Full dump of every database, and pg_amcheck as deep as it goes; the checksums were looked at before. */
async function auto(instance: Instance, conninfo: string): Promise<Complaint[]> {
  const dumps = await dumpEach(instance, conninfo, []);
  const { host, port, user } = parseConninfo(conninfo);
  const amcheck = await run(instance, "pg_amcheck", [
    `--host=${host}`,
    `--port=${port}`,
    `--username=${user}`,
    "--all",
    "--install-missing",
    "--parent-check",
    "--heapallindexed",
  ]);
  return [...dumps, ...complaintOf("pg_amcheck", amcheck)];
}

async function dumpEach(instance: Instance, conninfo: string, args: readonly string[]): Promise<Complaint[]> {
  const complaints: Complaint[] = [];
  let names: string[];
  try {
    const rows = await query({ conninfo }, "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate");
    names = rows.map((row) => String(row.datname));
  } catch (error) {
    return [{ by: "pg_dump", message: String(error) }];
  }
  for (const dbname of names) {
    const target = formatConninfo({ ...parseConninfo(conninfo), dbname });
    const ended = await run(instance, "pg_dump", [...args, "--file=/dev/null", `--dbname=${target}`]);
    complaints.push(...complaintOf("pg_dump", ended));
  }
  return complaints;
}

const run = (instance: Instance, file: string, args: readonly string[]) =>
  instance.lab.run(file, args, { timeoutMs: LIMIT_MS });

const complaintOf = (by: string, { exitCode, stdout, stderr }: RunResult): Complaint[] =>
  exitCode === 0 ? [] : [{ by, message: `${stdout}${stderr}` }];
