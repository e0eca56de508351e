import { describe, expect, test } from "vitest";
import { cached } from "../../../lib/backup-api/cached.ts";
import type { StanzaAnswer } from "../../../lib/backup-api/info.ts";
import { readAnswer } from "../../../lib/backup-api/info.ts";
import type { Job } from "../../../lib/backup-api/job.ts";
import type { Jobs } from "../../../lib/backup-api/jobs.ts";
import { createMetrics } from "../../../lib/backup-api/metrics.ts";
import type { StanzaArchive } from "../../../lib/backup-api/repository.ts";
import { answer, job, MISSING_STANZA, set } from "./samples.ts";

interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

async function scrape(
  state: {
    answers?: readonly StanzaAnswer[] | Error;
    archives?: readonly StanzaArchive[];
    /** After it was read once the archive can be read no more. */
    isArchiveGone?: true;
    jobs?: readonly Job[];
    progress?: Record<string, { fraction: number; bytes: number }>;
  } = {},
  stanzas: readonly string[] = ["main"],
) {
  const info = cached(async () => {
    if (state.answers instanceof Error) throw state.answers;
    return state.answers ?? [];
  });
  let looks = 0;
  const archive = cached(async () => {
    if (state.isArchiveGone && ++looks > 1) throw new Error("gone");
    return state.archives ?? [];
  });
  if (state.answers !== undefined) await info.read(0).catch(() => {});
  if (state.archives !== undefined) await archive.read(0);
  if (state.isArchiveGone) await archive.read(-1).catch(() => {});
  const jobs = {
    list: (command?: string) => (state.jobs ?? []).filter((one) => command === undefined || one.command === command),
    progress: (label: string) => state.progress?.[label] ?? null,
    journalFailures: () => 3,
  } as unknown as Jobs;
  const text = await createMetrics({
    stanzas,
    jobs,
    repository: { info, archive },
    skippedSchedules: () => 2,
    version: "1.2.3",
  })();
  return { text, samples: parse(text) };
}

/** Text format 0.0.4, strictly: https://prometheus.io/docs/instrumenting/exposition_formats/ */
function parse(text: string): Sample[] {
  const samples: Sample[] = [];
  const seen = { HELP: new Set<string>(), TYPE: new Set<string>(), all: new Set<string>() };
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/.exec(line);
    if (comment) {
      const [, kind = "", name = ""] = comment;
      expect(seen[kind as "HELP"].has(name), `${kind} of ${name} twice`).toBe(false);
      seen[kind as "HELP"].add(name);
      continue;
    }
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (-?[\d.e+-]+|[Nn]a[Nn]|[+-]Inf)$/.exec(line);
    expect(match, line).not.toBeNull();
    const [, name = "", inner = "", value = ""] = match ?? [];
    const labels = Object.fromEntries(
      [...inner.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\\n]|\\.)*)"(?:,|$)/g)].map(([, k, v]) => [k, v]),
    );
    expect(
      Object.entries(labels)
        .map(([k, v]) => `${k}="${v}"`)
        .join(","),
      line,
    ).toBe(inner.replace(/,$/, ""));
    const family = name.replace(/_(bucket|sum|count)$/, "");
    expect(seen.TYPE.has(name) || seen.TYPE.has(family), `TYPE of ${name}`).toBe(true);
    expect(seen.HELP.has(name) || seen.HELP.has(family), `HELP of ${name}`).toBe(true);
    const key = `${name} ${JSON.stringify(Object.entries(labels).sort())}`;
    expect(seen.all.has(key), `${key} twice`).toBe(false);
    seen.all.add(key);
    samples.push({ name, labels: labels as Record<string, string>, value: Number(value) });
  }
  return samples;
}

const sampleOf = (samples: readonly Sample[], name: string, labels: Record<string, string> = {}) => {
  const found = samples.filter(
    (one) => one.name === name && Object.entries(labels).every(([key, value]) => one.labels[key] === value),
  );
  expect(found.length, `${name} ${JSON.stringify(labels)}`).toBeLessThan(2);
  return found[0]?.value;
};

/** Names and labels of woblerr/pgbackrest_exporter, from its README. */
const SET = ["backup_name", "backup_type", "block_incr", "database_id", "repo_key", "stanza"];
const LAST = ["backup_type", "block_incr", "stanza"];
const EXPORTER: Record<string, string[]> = {
  pgbackrest_exporter_status: ["stanza"],
  pgbackrest_stanza_status: ["stanza"],
  pgbackrest_stanza_backup_complete_bytes: ["stanza"],
  pgbackrest_stanza_backup_lock_status: ["stanza"],
  pgbackrest_repo_status: ["cipher", "repo_key", "stanza"],
  pgbackrest_backup_info: [
    ...SET,
    ...["backrest_ver", "lsn_start", "lsn_stop", "pg_version", "prior", "wal_start", "wal_stop"],
  ],
  pgbackrest_backup_duration_seconds: [...SET, "start_time", "stop_time"],
  pgbackrest_backup_error_status: SET,
  pgbackrest_backup_delta_bytes: SET,
  pgbackrest_backup_size_bytes: SET,
  pgbackrest_backup_repo_delta_bytes: SET,
  pgbackrest_backup_repo_size_bytes: SET,
  pgbackrest_backup_since_last_completion_seconds: LAST,
  pgbackrest_backup_last_duration_seconds: LAST,
  pgbackrest_backup_last_error_status: LAST,
  pgbackrest_backup_last_delta_bytes: LAST,
  pgbackrest_backup_last_size_bytes: LAST,
  pgbackrest_backup_last_repo_delta_bytes: LAST,
  pgbackrest_backup_last_repo_size_bytes: LAST,
  // Those of wal_max and wal_min are empty unless the exporter is asked for them.
  pgbackrest_wal_archive_status: ["database_id", "pg_version", "repo_key", "stanza"],
};

const FULL = "20261123-010000F";
const DIFF = `${FULL}_20261123-020000D`;

describe("names and labels are those of pgbackrest_exporter", () => {
  test("each one that begins with pgbackrest_", async () => {
    const { samples } = await scrape({ answers: [answer("main", [set(FULL), set(DIFF)])] });
    const ours = samples.filter(({ name }) => name.startsWith("pgbackrest_"));
    for (const { name, labels } of ours) {
      expect(Object.keys(labels).sort(), name).toEqual([...(EXPORTER[name] ?? ["not its name"])].sort());
    }
    expect(new Set(ours.map(({ name }) => name))).toEqual(new Set(Object.keys(EXPORTER)));
  });

  test("a set's values are pgBackRest's", async () => {
    const { samples } = await scrape({ answers: [answer("main", [set(FULL, { error: true })])] });
    const info = samples.find(({ name }) => name === "pgbackrest_backup_info");
    expect(info).toEqual({
      name: "pgbackrest_backup_info",
      value: 1,
      labels: {
        backup_name: FULL,
        backup_type: "full",
        block_incr: "n",
        database_id: "1",
        repo_key: "1",
        stanza: "main",
        backrest_ver: "2.45",
        lsn_start: "0/17000028",
        lsn_stop: "0/17000100",
        pg_version: "15",
        prior: "",
        wal_start: "000000010000000000000017",
        wal_stop: "000000010000000000000017",
      },
    });
    const of = { backup_name: FULL };
    expect(
      sampleOf(samples, "pgbackrest_backup_duration_seconds", {
        ...of,
        start_time: "2026-11-23 01:00:00",
        stop_time: "2026-11-23 01:00:06",
      }),
    ).toBe(6);
    expect(sampleOf(samples, "pgbackrest_backup_error_status", of)).toBe(1);
    expect(sampleOf(samples, "pgbackrest_backup_delta_bytes", of)).toBe(336860855);
    expect(sampleOf(samples, "pgbackrest_backup_size_bytes", of)).toBe(336860856);
    expect(sampleOf(samples, "pgbackrest_backup_repo_delta_bytes", of)).toBe(19860789);
    expect(sampleOf(samples, "pgbackrest_backup_repo_size_bytes", of)).toBe(19860790);
  });

  test("a block incremental set of a later pgBackRest is one", async () => {
    const repository = { delta: 1, "delta-map": 2, size: null, "size-map": 3 };
    const { samples } = await scrape({
      answers: [answer("main", [set(FULL, { info: { delta: 1, size: 1, repository } })])],
    });
    expect(sampleOf(samples, "pgbackrest_backup_info", { block_incr: "y" })).toBe(1);
    expect(sampleOf(samples, "pgbackrest_backup_repo_size_bytes")).toBe(0);
  });
});

describe("the last backups", () => {
  test("a full one counts as differential and incremental, a differential one as incremental", async () => {
    const sizes = (size: number) => ({ info: { delta: size, size, repository: { delta: size, size } } });
    const { samples } = await scrape({ answers: [answer("main", [set(FULL, sizes(1)), set(DIFF, sizes(2))])] });
    const last = (backup_type: string) => sampleOf(samples, "pgbackrest_backup_last_size_bytes", { backup_type });
    expect(["full", "diff", "incr"].map(last)).toEqual([1, 2, 2]);
  });

  test("without any there is no value, rather than a wrong one", async () => {
    const { samples } = await scrape({ answers: [answer("main", [])] });
    expect(samples.filter(({ name }) => /_last_|_since_/.test(name) && name.startsWith("pgbackrest_"))).toEqual([]);
  });

  test("the time since then goes on", async () => {
    const now = Math.floor(Date.now() / 1000);
    const recent = set(FULL, { timestamp: { start: now - 100, stop: now - 90 } });
    const { samples } = await scrape({ answers: [answer("main", [recent])] });
    const since = sampleOf(samples, "pgbackrest_backup_since_last_completion_seconds", { backup_type: "full" }) ?? 0;
    expect(since).toBeGreaterThanOrEqual(89);
    expect(since).toBeLessThan(100);
  });
});

describe("what is wrong shows", () => {
  test("before pgBackRest was ever asked there is something to alert on", async () => {
    const { samples } = await scrape({}, ["main", "other"]);
    for (const stanza of ["main", "other"]) {
      expect(sampleOf(samples, "pgbackrest_exporter_status", { stanza })).toBe(0);
      expect(sampleOf(samples, "pgbackrest_stanza_backup_lock_status", { stanza })).toBe(0);
      expect(sampleOf(samples, "patroni_restore_jobs", { stanza, command: "backup", status: "ERROR" })).toBe(0);
    }
    expect(sampleOf(samples, "patroni_restore_build_info", { version: "1.2.3" })).toBe(1);
    expect(sampleOf(samples, "patroni_restore_journal_failures")).toBe(3);
    expect(sampleOf(samples, "patroni_restore_schedule_skipped")).toBe(2);
    expect(samples.some(({ name }) => name.startsWith("process_"))).toBe(true);
  });

  test("pgBackRest that fails", async () => {
    const { samples } = await scrape({ answers: new Error("no repository") });
    expect(sampleOf(samples, "pgbackrest_exporter_status", { stanza: "main" })).toBe(0);
  });

  test("a stanza that is missing", async () => {
    const { samples } = await scrape({ answers: [readAnswer("nope", MISSING_STANZA)] }, ["nope"]);
    expect(sampleOf(samples, "pgbackrest_exporter_status", { stanza: "nope" })).toBe(1);
    expect(sampleOf(samples, "pgbackrest_stanza_status", { stanza: "nope" })).toBe(1);
    expect(sampleOf(samples, "pgbackrest_repo_status", { stanza: "nope", repo_key: "1", cipher: "none" })).toBe(1);
    expect(sampleOf(samples, "patroni_restore_repository_problems", { stanza: "nope" })).toBe(1);
  });

  test("missing WAL, without what retention has removed", async () => {
    const gap = (segments: number, isRetention: boolean) => ({
      timeline: 1,
      first: "a",
      last: "b",
      segments,
      isRetention,
      nextStoredAt: 0,
    });
    const now = Date.now() / 1000;
    const stored = (age: number) => ({ segment: "s", path: "p", storedAt: now - age, size: 1 });
    const state = {
      segmentSize: 1,
      segments: 9,
      newest: stored(10),
      restorable: stored(500),
      gaps: [gap(2, false), gap(40, true), gap(1, false)],
      unusable: ["x"],
    };
    const archives = [{ stanza: "main", repo: 2, archiveId: "15-1", state, lastCommitAt: null }];
    const { samples } = await scrape({ answers: [answer("main", [set(FULL)])], archives });
    const of = { stanza: "main", repo_key: "2" };
    expect(sampleOf(samples, "patroni_restore_wal_missing_segments", of)).toBe(3);
    expect(sampleOf(samples, "patroni_restore_wal_unusable_backups", of)).toBe(1);
    expect(sampleOf(samples, "patroni_restore_wal_newest_age_seconds", of)).toBeCloseTo(10, -1);
    expect(sampleOf(samples, "patroni_restore_wal_restorable_age_seconds", of)).toBeCloseTo(500, -1);
    expect(sampleOf(samples, "patroni_restore_wal_readable", {})).toBe(1);

    // Not the last good answer for ever.
    const gone = await scrape({ answers: [answer("main", [set(FULL)])], archives, isArchiveGone: true });
    expect(sampleOf(gone.samples, "patroni_restore_wal_readable", {})).toBe(0);
    expect(gone.text).not.toMatch(/^patroni_restore_wal_missing_segments\{/m);
  });

  test("jobs, by how they ended, and how the last one did", async () => {
    const jobs = [
      job({ label: "20261123010000", status: "FINISHED" }),
      job({ label: "20261123020000", status: "ERROR" }),
      job({ label: "20261123030000", status: "RUNNING" }),
      job({ label: "20261123040000", status: "FINISHED", command: "verify", type: null }),
    ];
    const progress = { "20261123030000": { fraction: 0.25, bytes: 1000 } };
    const { samples } = await scrape({ jobs, progress });
    const count = (status: string) => sampleOf(samples, "patroni_restore_jobs", { command: "backup", status });
    expect(["FINISHED", "ERROR", "RUNNING", "CANCELLED"].map(count)).toEqual([1, 1, 1, 0]);
    expect(sampleOf(samples, "patroni_restore_job_last_success", { command: "backup" })).toBe(0);
    expect(sampleOf(samples, "patroni_restore_job_last_success", { command: "verify" })).toBe(1);
    expect(sampleOf(samples, "patroni_restore_job_last_success", { command: "expire" })).toBeUndefined();
    expect(sampleOf(samples, "pgbackrest_stanza_backup_lock_status", { stanza: "main" })).toBe(1);
    expect(sampleOf(samples, "pgbackrest_stanza_backup_complete_bytes", { stanza: "main" })).toBe(1000);
    expect(sampleOf(samples, "patroni_restore_backup_progress_ratio", { stanza: "main" })).toBe(0.25);
  });

  test("verify and restore tests do not hold the lock", async () => {
    const jobs = [job({ status: "RUNNING", command: "verify", type: null })];
    const { samples } = await scrape({ jobs });
    expect(sampleOf(samples, "pgbackrest_stanza_backup_lock_status", { stanza: "main" })).toBe(0);
  });
});

test("odd names do not break the text", async () => {
  const odd = 'a"b\\c';
  const { samples } = await scrape({ answers: [answer(odd, [set(FULL)])] }, [odd]);
  expect(samples.some(({ labels }) => labels.stanza === 'a\\"b\\\\c')).toBe(true);
});

test("a set that has expired is gone at the next scrape", async () => {
  let sets = [set(FULL), set(DIFF)];
  const info = cached(async () => [answer("main", sets)]);
  const metrics = createMetrics({
    stanzas: ["main"],
    jobs: { list: () => [], progress: () => null, journalFailures: () => 0 } as unknown as Jobs,
    repository: { info, archive: cached(async () => []) },
    skippedSchedules: () => 0,
    version: "1",
  });
  await info.read(0);
  expect(await metrics()).toContain(DIFF);
  sets = [set(FULL)];
  await new Promise((resolve) => setTimeout(resolve, 2));
  await info.read(0);
  expect(await metrics()).not.toContain(DIFF);
});
