/** The whole life of a repository in an object store, with our restore test at its end. The same for every store. */

import { readdir, readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import type { Report } from "../../../lib/report/report.ts";
import { useLab } from "../fixture.ts";
import type { Lab } from "../lab.ts";
import { processesOf } from "../process.ts";
import {
  APP_DATABASE,
  archiveWal,
  backup,
  loadSchema,
  markAndWait,
  pgbackrest,
  query,
  type Source,
  startSource,
} from "../source.ts";
import { configure, createRepository, objectsIn, type Store } from "./store.ts";

/** Tests in order: each builds on what the one before left in the repository. */
export function testCycle(
  name: string,
  start: (lab: Lab) => Promise<Store>,
  pgbackrestSettings: Readonly<Record<string, string>> = {},
): void {
  describe(name, () => {
    const lab = useLab(name.toLowerCase(), async (lab) => {
      const store = await start(lab);
      const source = await startSource(lab, {
        stanza: "svc",
        pgbackrest: { ...store.settings("read-write"), ...pgbackrestSettings },
      });
      await loadSchema(lab, source);
      const reader = await configure(lab, source, "read-only", store.settings("read-only"));
      return { store, source, reader, work: await lab.makeDirectory("w") };
    });
    const run = (source: Source, ...args: string[]) =>
      lab().run("pgbackrest", [`--config=${source.pgbackrestConfig}`, ...args]);
    const ofStanza = (...args: string[]) => pgbackrest(lab(), lab().source, ...args);
    const labels = async () => {
      const { stdout } = await ofStanza("info", "--output=json");
      return (JSON.parse(stdout)[0].backup as { label: string; type: string }[]).map(({ label }) => label);
    };
    const change = () =>
      query(lab().source, "UPDATE pgbench_branches SET bbalance = bbalance + 1", { database: APP_DATABASE });

    test("repo-create, stanza-create, check", async () => {
      await createRepository(lab(), lab().source);
      await ofStanza("stanza-create");
      await ofStanza("check");
    });

    test("full, differential and incremental backup", async () => {
      const made: string[] = [];
      for (const type of ["full", "diff", "incr"] as const) {
        await change();
        made.push(await backup(lab(), lab().source, type));
      }
      expect(await labels()).toEqual(made);
      expect(made.map((label) => label.at(-1))).toEqual(["F", "D", "I"]);
    });

    test("archive-push by PostgreSQL, archive-get of the same bytes, and of a segment that is not there", async () => {
      const { source, path, mustRun } = lab();
      await change();
      const segment = await archiveWal(source);
      await ofStanza("archive-get", segment, path("segment"));
      await mustRun("cmp", [path("segment"), `${source.dataDir}/pg_wal/${segment}`]);
      const missing = "0000000100000099000000AA";
      const result = await run(source, "--stanza=svc", "archive-get", missing, path("missing"));
      expect(result.exitCode, result.stderr).toBe(1);
    });

    test("verify, and expire by retention: the older sets and their WAL are gone", async () => {
      const before = await objectsIn(lab(), lab().source);
      const kept = await backup(lab(), lab().source, "full");
      await ofStanza("--repo1-retention-full=1", "expire");
      expect(await labels()).toEqual([kept]);
      const after = await objectsIn(lab(), lab().source);
      const isWal = (name: string) => /\/[0-9A-F]{24}-/.test(name);
      expect(Object.keys(before).filter((object) => isWal(object) && object in after)).toEqual([]);
      const sets = Object.keys(after).flatMap((object) => /^backup\/svc\/(\d[^/]+)\//.exec(object)?.[1] ?? []);
      expect([...new Set(sets)]).toEqual([kept]);
      const { stdout } = await ofStanza("--output=text", "--verbose", "verify");
      expect(stdout).toMatch(/status: ok/);
      expect(stdout).toContain(`backup: ${kept}, status: valid`);
    });

    test("restore test of the marked source at level full: healthy", async () => {
      const { source } = lab();
      await restoreTest(source, "--source", source.conninfo, "--runner=direct");
    });

    test("a credential that only reads cannot write: 403", async () => {
      const { source, reader, path } = lab();
      const connection = [
        `--pg1-path=${source.dataDir}`,
        `--pg1-port=${source.port}`,
        `--pg1-socket-path=${source.socketDir}`,
      ];
      const wal = `${source.dataDir}/pg_wal/${await archiveWal(source)}`;
      const before = await objectsIn(lab(), source);
      // A segment's own name would be found in the archive, and nothing would be written.
      await lab().mustRun("cp", [wal, path("0000000100000099000000AA")]);
      const writes = [
        ["repo-put", "somewhere"],
        ["repo-rm", "archive/svc/archive.info.copy"],
        ["--stanza=other", ...connection, "--pg1-user=postgres", "stanza-create"],
        ["--stanza=svc", "backup"],
        ["--stanza=svc", "archive-push", path("0000000100000099000000AA")],
      ];
      for (const args of writes) {
        const result = await run(reader, ...args);
        expect(`${args}: ${result.exitCode} ${result.stderr}`).toMatch(
          /: [1-9]\d* [\s\S]*HTTP request failed with 403/,
        );
      }
      // A refused backup has made PostgreSQL switch WAL, which its own credential archives.
      const written = ([name]: [string, number]) => !/^archive\/svc\/\d+-1\/(?!0000000100000099)/.test(name);
      const after = await objectsIn(lab(), source);
      expect(Object.entries(after).filter(written)).toEqual(Object.entries(before).filter(written));
    });

    test("with it, the restore test through Patroni is healthy, and not one object of the repository has changed", async () => {
      const { source, reader } = lab();
      const { file } = await markAndWait(lab(), source);
      const before = await objectsIn(lab(), source);
      await restoreTest(reader, "--receipt", file);
      expect(await objectsIn(lab(), source)).toEqual(before);
    });

    async function restoreTest(source: Source, ...args: string[]): Promise<void> {
      const { work, path, runScript } = lab();
      const report = path("log", "report.json");
      const result = await runScript("restore-test", [
        ...args,
        "--stanza=svc",
        `--pgbackrest-config=${source.pgbackrestConfig}`,
        "--level=full",
        `--work-dir=${work}`,
        `--report=${report}`,
      ]);
      expect(result.exitCode, `${result.stdout}\n${result.stderr}`).toBe(0);
      const { verdict, receipt_id, checks, recovered } = JSON.parse(await readFile(report, "utf8")) as Report;
      expect({ verdict, hasReceipt: receipt_id !== null }).toEqual({ verdict: "healthy", hasReceipt: true });
      expect(recovered?.segments_ahead).toBeGreaterThan(0);
      expect(checks.filter(({ status }) => status === "fail" || status === "unverified")).toEqual([]);
      expect(processesOf(work)).toEqual([]);
      expect(await readdir(work)).toEqual([]);
    }
  });
}
