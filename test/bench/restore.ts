/** From the start of a restore to its verdict, its recovery alone, and how far it is from the least that must be done. */

import { startEtcd } from "../lab/etcd.ts";
import { startCeph } from "../lab/stores/ceph.ts";
import { startRelay } from "../lab/stores/latency.ts";
import { configure, createRepository } from "../lab/stores/store.ts";
import { type Bench, type BenchCase, type BenchResult, median, range } from "./case.ts";
import { type Restorable, restorable } from "./restorable.ts";
import { bootstrap, breakdown, type OurRun, recoverySeconds, restoreTest, slowestChecks } from "./restore-ours.ts";
import { autoScript, autoSteps, type Floor, floor, shellWithPatroni, type TheirRun } from "./restore-theirs.ts";

export const restoreCase: BenchCase = {
  name: "restore",
  title: "Restore to verdict, level full",
  runs: 3,
  run: runRestore,
};

export const recoveryCase: BenchCase = {
  name: "recovery",
  title: "Recovery alone, local repository",
  runs: 3,
  run: async (bench) => runRecovery(bench, await restorable(bench), 0.45),
};

export const floorCase: BenchCase = { name: "floor", title: "bootstrap and its floor", runs: 3, run: runFloor };

export const latencyCase: BenchCase = {
  name: "recovery-s3",
  title: "Recovery alone, S3-compatible repository with 20 ms of added latency",
  runs: 3,
  run: runRecoveryFromStore,
};

const LATENCY_MS = 20;

async function runRestore(bench: Bench): Promise<BenchResult> {
  const { lab, runs, say, pgbackrestAuto } = bench;
  const service = await restorable(bench);
  const etcd = await startEtcd(lab);
  const patroni: OurRun[] = [];
  const direct: OurRun[] = [];
  const auto: TheirRun[] = [];
  const shell: TheirRun[] = [];
  const askAuto = () =>
    pgbackrestAuto === null ? autoSteps(bench, service) : autoScript(bench, service, pgbackrestAuto);
  for (let n = 1; n <= runs; n++) {
    patroni.push(await restoreTest(bench, service, "patroni"));
    auto.push(await askAuto());
    direct.push(await restoreTest(bench, service, "direct"));
    shell.push(await shellWithPatroni(bench, service, etcd));
    const last = [patroni, direct, auto, shell].map((all) => all.at(-1)?.seconds.toFixed(1));
    say(
      `run ${n}: through Patroni ${last[0]} s, direct ${last[1]} s, pgbackrest_auto ${last[2]} s, shell ${last[3]} s`,
    );
  }
  const ratio = (ours: readonly { seconds: number }[], theirs: readonly number[]) =>
    median(ours.map(({ seconds }, n) => seconds / (theirs[n] ?? Number.NaN)));
  const seconds = (all: readonly { seconds: number }[]) => all.map((one) => one.seconds);
  const withSleeps = auto.map((one) => one.seconds + one.sleepSeconds);
  const rows: [string, readonly number[]][] = [
    ["`restore-test --runner patroni`, to the verdict", seconds(patroni)],
    ["`restore-test --runner direct`, to the verdict", seconds(direct)],
    ["the two hooks alone: start of bootstrap to the verdict, Patroni between them", patroni.map(hooksAlone)],
    ["pgbackrest_auto --checkdb, its sleeps taken out", seconds(auto)],
    ["pgbackrest_auto --checkdb, with its sleeps", withSleeps],
    ["shell script with Patroni, `pg_dump -s`, to the leader", seconds(shell)],
  ];
  return {
    ratios: [
      {
        what: "restore-test through Patroni : pgbackrest_auto without its sleeps, all checks each",
        value: ratio(patroni, seconds(auto)),
        limit: 0.45,
      },
      { what: "the same, directly", value: ratio(direct, seconds(auto)), limit: 0.45 },
      { what: "restore-test through Patroni : pgbackrest_auto as it is", value: ratio(patroni, withSleeps) },
      {
        what: "restore-test through Patroni, every check : shell script with Patroni, which reads no row",
        value: ratio(patroni, seconds(shell)),
      },
    ],
    tables: [
      { head: ["", "median, s", "range, s"], rows: rows.map(([what, values]) => row(what, values)) },
      breakdown({ "with Patroni": patroni, direct }),
      slowestChecks(direct),
      stepTable("pgbackrest_auto, without its sleeps", auto),
      stepTable("shell script with Patroni", shell),
    ],
    notes: [
      service.description,
      `pgbackrest_auto: ${pgbackrestAuto === null ? "the same programs in the same order, called by this benchmark" : "its own script, with a sleep that returns at once"}; it sleeps 30 s before it overwrites a directory and 10 s between two looks at recovery`,
      `${runs} interleaved runs, a sync before each; ours includes the start and the end of etcd and Patroni up to the verdict`,
    ],
    raw: { patroni, direct, auto, shell },
  };
}

/** Without what restore-test does before: etcd, Patroni. */
const hooksAlone = (run: OurRun) => run.seconds - (Object.values(run.spans)[0] ?? 0) / 1000;

async function runRecovery(bench: Bench, service: Restorable, limit: number): Promise<BenchResult> {
  const { lab, runs, say } = bench;
  const etcd = await startEtcd(lab);
  const ours: OurRun[] = [];
  const theirs: Awaited<ReturnType<typeof shellWithPatroni>>[] = [];
  for (let n = 1; n <= runs; n++) {
    ours.push(await bootstrap(bench, service));
    theirs.push(await shellWithPatroni(bench, service, etcd, true));
    const [our, their] = [ours.at(-1), theirs.at(-1)];
    say(`run ${n}: ours ${our && recoverySeconds(our).toFixed(2)} s, theirs ${their?.recoverySeconds.toFixed(2)} s`);
  }
  return {
    ratios: [
      {
        what: "recovery and promotion in bootstrap : recovery that Patroni drives with archive-get",
        value: median(ours.map((run, n) => recoverySeconds(run) / (theirs[n]?.recoverySeconds ?? Number.NaN))),
        limit,
      },
    ],
    tables: [
      {
        head: ["", "median, s", "range, s"],
        rows: [
          row("bootstrap: recovery and promote", ours.map(recoverySeconds)),
          row(
            "Patroni: start of PostgreSQL to the end of promotion",
            theirs.map((run) => run.recoverySeconds),
          ),
          row(
            "bootstrap: preflight to promote",
            ours.map(({ spans }) => untilPromoted(spans)),
          ),
          row(
            "shell script with Patroni: its start to the end of promotion",
            theirs.map((run) => run.seconds),
          ),
        ],
      },
      breakdown({ bootstrap: ours }),
    ],
    notes: [service.description, `${runs} interleaved runs, a sync before each`],
    raw: { ours, theirs },
  };
}

const untilPromoted = ({ preflight = 0, restore = 0, recovery = 0, promote = 0 }: OurRun["spans"]) =>
  (preflight + restore + recovery + promote) / 1000;

async function runFloor(bench: Bench): Promise<BenchResult> {
  const { runs, say } = bench;
  const service = await restorable(bench);
  const bare: OurRun[] = [];
  const whole: OurRun[] = [];
  const floors: Floor[] = [];
  for (let n = 1; n <= runs; n++) {
    bare.push(await bootstrap(bench, service, { args: ["--page-checksums=skip", "--sync=skip"] }));
    floors.push(await floor(bench, service));
    whole.push(await bootstrap(bench, service));
    const [ours, least, all] = [bare.at(-1), floors.at(-1), whole.at(-1)];
    say(
      `run ${n}: ${ours?.wholeSeconds.toFixed(1)} : ${least && leastSeconds(least).toFixed(1)} s, whole ${all?.wholeSeconds.toFixed(1)} : ${least && wholeSeconds(least).toFixed(1)} s`,
    );
  }
  const ratio = (ours: readonly OurRun[], of: (one: Floor) => number) =>
    median(ours.map((run, n) => run.wholeSeconds / of(floors[n] as Floor)));
  const ours = (all: readonly OurRun[]) => all.map((run) => run.wholeSeconds);
  const step = (what: string, of: (one: Floor) => number) => row(what, floors.map(of));
  return {
    ratios: [
      {
        what: "bootstrap without page checksums and flush : floor without them",
        value: ratio(bare, leastSeconds),
        limit: 1.1,
      },
      { what: "bootstrap : floor, page checksums and flush in both", value: ratio(whole, wholeSeconds), limit: 1.1 },
    ],
    tables: [
      {
        head: ["", "median, s", "range, s"],
        rows: [
          row("`bootstrap --page-checksums=skip --sync=skip`", ours(bare)),
          row("`bootstrap`", ours(whole)),
          step("floor: restore, recovery, stop", leastSeconds),
          step("floor: the same, pg_checksums and flush", wholeSeconds),
          step("`pgbackrest restore`, whose own flush is part of it", ({ restore }) => restore / 1000),
          step("recovery and promotion, all WAL in pg_wal, nothing flushed", ({ recovery }) => recovery / 1000),
          step("stop", ({ stop }) => stop / 1000),
          step("`pg_checksums --check`", ({ checksums }) => checksums / 1000),
          step("`initdb --sync-only`", ({ sync }) => sync / 1000),
        ],
      },
      breakdown({ "bootstrap --page-checksums=skip --sync=skip": bare, bootstrap: whole }),
    ],
    notes: [
      service.description,
      `${runs} interleaved runs, a sync before each; laying the WAL into the floor's pg_wal, fetching it and unpacking it are not counted`,
    ],
    raw: { bare, whole, floors },
  };
}

const leastSeconds = ({ restore, recovery, stop }: Floor) => (restore + recovery + stop) / 1000;
const wholeSeconds = (one: Floor) => leastSeconds(one) + (one.checksums + one.sync) / 1000;

async function runRecoveryFromStore(bench: Bench): Promise<BenchResult> {
  const { lab, say } = bench;
  const local = await restorable(bench);
  say("starting Ceph and copying the repository into it");
  const store = await startCeph(lab);
  await lab.makeDirectory(local.source.stanza);
  const near = await configure(lab, local.source, "near", store.settings("read-write"));
  await createRepository(lab, near);
  await copyIntoStore(bench, local, near.pgbackrestConfig);
  const relay = await startRelay(lab, store.port, LATENCY_MS);
  try {
    const source = await configure(lab, local.source, "far", store.settings("read-only", relay.port));
    const result = await runRecovery(bench, { ...local, source }, 0.3);
    const notes = [`Ceph's gateway behind a relay that adds ${LATENCY_MS} ms to each round trip`, ...result.notes];
    return { ...result, notes };
  } finally {
    await relay.close();
  }
}

/** File by file with pgBackRest itself: the same repository in another place. */
async function copyIntoStore({ lab }: Bench, { source }: Restorable, config: string): Promise<void> {
  const put = `cd "$1" && find archive backup -type f -print0 |
    xargs -0 -P 4 -I FILE sh -c 'pgbackrest --config="$1" --repo=1 repo-put "$2" < "$2"' put "$2" FILE`;
  await lab.mustRun("bash", ["-c", put, "copy", source.repository, config]);
}

const row = (what: string, values: readonly number[]) => [what, median(values).toFixed(2), range(values, 2)];

function stepTable(title: string, all: readonly TheirRun[]): { head: string[]; rows: string[][] } {
  const names = Object.keys(all[0]?.steps ?? {});
  const rows = names.map((name) => [name, median(all.map(({ steps }) => steps[name] ?? 0)).toFixed(0)]);
  return { head: [title, "median, ms"], rows };
}
