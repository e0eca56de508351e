/**
 * Metrics for Prometheus. Names that begin with `pgbackrest_` mean what they mean in woblerr/pgbackrest_exporter (README of
 * 2026-08), so that its dashboards and alerts work; the API's own begin with `patroni_restore_`.
 */

import { type MakeGauge, openMetrics } from "../http/prometheus.ts";
import { formatSecond } from "../restore/backup-info.ts";
import { lostGaps } from "./archive.ts";
import { answerProblems, type SetDescription, type StanzaAnswer } from "./info.ts";
import { hasEnded, JOB_COMMANDS, JOB_STATUSES } from "./job.ts";
import type { Repository, StanzaArchive } from "./repository.ts";
import type { Api } from "./route.ts";

interface Sources {
  stanzas: readonly string[];
  repository: Repository;
  jobs: Api["jobs"];
  /** Of a schedule that found its backup's place taken, or could not tell whether this is the primary. */
  skippedSchedules(): number;
  version: string;
}

/** Undefined members of a set, which an older pgBackRest does not have, count as 0. */
type Info = {
  size?: number;
  delta?: number;
  repository?: { size?: number; delta?: number; "size-map"?: number | null };
};

export function createMetrics(sources: Sources): () => Promise<string> {
  const { gauge, text } = openMetrics();
  const answers = () => sources.repository.info.latest()?.value ?? [];
  repositoryMetrics(gauge, answers, sources);
  backupMetrics(gauge, answers);
  lastBackupMetrics(gauge, answers);
  archiveMetrics(gauge, answers, sources.repository);
  jobMetrics(gauge, sources);
  return text;
}

type Answers = () => readonly StanzaAnswer[];

function repositoryMetrics(gauge: MakeGauge, answers: Answers, { repository, stanzas }: Sources): void {
  gauge("pgbackrest_exporter_status", "1 when pgbackrest info could be read the last time", ["stanza"], (g) => {
    const works = repository.info.latest() !== null && repository.info.failure() === null;
    for (const stanza of stanzas) g.set({ stanza }, works ? 1 : 0);
  });
  gauge("patroni_restore_info_age_seconds", "age of what pgbackrest info last said", [], (g) => {
    const latest = repository.info.latest();
    if (latest !== null) g.set((Date.now() - latest.at.getTime()) / 1000);
  });
  gauge("pgbackrest_stanza_status", "status code of the stanza; 0 is ok", ["stanza"], (g) => {
    for (const { stanza, info } of answers()) g.set({ stanza }, info?.status.code ?? 1);
  });
  gauge(
    "pgbackrest_repo_status",
    "status code of the stanza in a repository; 0 is ok",
    ["cipher", "repo_key", "stanza"],
    (g) => {
      for (const { stanza, info } of answers()) {
        for (const { key, status, cipher } of info?.repo ?? []) {
          g.set({ stanza, repo_key: String(key), cipher: cipher ?? "" }, status.code);
        }
      }
    },
  );
  gauge("patroni_restore_repository_problems", "sentences that /info has", ["stanza"], (g) => {
    for (const answer of answers()) g.set({ stanza: answer.stanza }, answerProblems(answer).length);
  });
}

const SET_LABELS = ["backup_name", "backup_type", "block_incr", "database_id", "repo_key", "stanza"];
const INFO_LABELS = ["backrest_ver", "lsn_start", "lsn_stop", "pg_version", "prior", "wal_start", "wal_stop"];
const TIME_LABELS = ["start_time", "stop_time"];

function backupMetrics(gauge: MakeGauge, answers: Answers): void {
  const each = (
    name: string,
    help: string,
    value: (set: SetDescription) => number,
    more: readonly string[] = [],
    labels: (answer: StanzaAnswer, set: SetDescription) => Record<string, string> = () => ({}),
  ) =>
    gauge(name, help, [...SET_LABELS, ...more], (g) => {
      for (const answer of answers()) {
        for (const set of answer.sets) g.set({ ...labelsOf(answer.stanza, set), ...labels(answer, set) }, value(set));
      }
    });
  each("pgbackrest_backup_info", "a backup set that exists", () => 1, INFO_LABELS, infoLabelsOf);
  each(
    "pgbackrest_backup_duration_seconds",
    "how long the backup took",
    ({ timestamp }) => timestamp.stop - timestamp.start,
    TIME_LABELS,
    (_, { timestamp }) => ({
      start_time: formatSecond(timestamp.start).slice(0, 19),
      stop_time: formatSecond(timestamp.stop).slice(0, 19),
    }),
  );
  each("pgbackrest_backup_error_status", "1 when pgBackRest found wrong page checksums", ({ error }) =>
    error ? 1 : 0,
  );
  each("pgbackrest_backup_size_bytes", "size of the database", (set) => infoOf(set).size ?? 0);
  each("pgbackrest_backup_delta_bytes", "what of the database was copied", (set) => infoOf(set).delta ?? 0);
  each("pgbackrest_backup_repo_size_bytes", "size in the repository", (set) => infoOf(set).repository?.size ?? 0);
  each(
    "pgbackrest_backup_repo_delta_bytes",
    "what it added to the repository",
    (set) => infoOf(set).repository?.delta ?? 0,
  );
}

function labelsOf(stanza: string, set: SetDescription): Record<string, string> {
  const database = set.database as { id?: number; "repo-key"?: number } | undefined;
  return {
    stanza,
    backup_name: set.label,
    backup_type: set.type,
    block_incr: blockIncremental(set),
    database_id: String(database?.id ?? ""),
    repo_key: String(database?.["repo-key"] ?? 1),
  };
}

function infoLabelsOf({ info }: StanzaAnswer, set: SetDescription): Record<string, string> {
  const { archive, backrest, database, lsn, prior } = set as SetDescription & {
    archive?: { start: string | null; stop: string | null };
    backrest?: { version: string };
    database?: { id: number; "repo-key"?: number };
    lsn?: { start: string; stop: string };
    prior?: string | null;
  };
  const db = info?.db.find((one) => one.id === database?.id && one["repo-key"] === (database["repo-key"] ?? 1));
  return {
    backrest_ver: backrest?.version ?? "",
    lsn_start: lsn?.start ?? "-",
    lsn_stop: lsn?.stop ?? "-",
    pg_version: db?.version ?? "",
    prior: prior ?? "",
    wal_start: archive?.start ?? "",
    wal_stop: archive?.stop ?? "",
  };
}

/** Of pgBackRest 2.46 and later. */
const blockIncremental = (set: SetDescription) => (infoOf(set).repository?.["size-map"] == null ? "n" : "y");

const infoOf = (set: SetDescription): Info => (set.info as Info | undefined) ?? {};

/** A full backup is also the newest differential one, and each of these the newest incremental one. */
const COUNTS_AS: Record<string, readonly string[]> = {
  full: ["full"],
  diff: ["full", "diff"],
  incr: ["full", "diff", "incr"],
};

function lastBackupMetrics(gauge: MakeGauge, answers: Answers): void {
  const each = (name: string, help: string, value: (set: SetDescription) => number) =>
    gauge(name, help, ["backup_type", "block_incr", "stanza"], (g) => {
      for (const { stanza, sets } of answers()) {
        for (const [type, types] of Object.entries(COUNTS_AS)) {
          const last = sets.filter((set) => types.includes(set.type)).at(-1);
          if (last === undefined) continue;
          g.set({ stanza, backup_type: type, block_incr: blockIncremental(last) }, value(last));
        }
      }
    });
  each(
    "pgbackrest_backup_since_last_completion_seconds",
    "time since the last backup of that type, or of one that contains more",
    ({ timestamp }) => Math.max(0, Date.now() / 1000 - timestamp.stop),
  );
  each(
    "pgbackrest_backup_last_duration_seconds",
    "how long it took",
    ({ timestamp }) => timestamp.stop - timestamp.start,
  );
  each("pgbackrest_backup_last_error_status", "1 when it has wrong page checksums", ({ error }) => (error ? 1 : 0));
  each("pgbackrest_backup_last_size_bytes", "size of the database", (set) => infoOf(set).size ?? 0);
  each("pgbackrest_backup_last_delta_bytes", "what of the database was copied", (set) => infoOf(set).delta ?? 0);
  each("pgbackrest_backup_last_repo_size_bytes", "size in the repository", (set) => infoOf(set).repository?.size ?? 0);
  each("pgbackrest_backup_last_repo_delta_bytes", "what it added", (set) => infoOf(set).repository?.delta ?? 0);
}

function archiveMetrics(gauge: MakeGauge, answers: Answers, { info, archive }: Repository): void {
  const isReadable = () => archive.latest() !== null && archive.failure() === null && info.failure() === null;
  // What cannot be looked at must not go on saying that nothing is missing.
  const archives = () => (isReadable() ? (archive.latest()?.value ?? []) : []);
  gauge("patroni_restore_wal_readable", "1 when the WAL archive could be read the last time", [], (g) =>
    g.set(isReadable() ? 1 : 0),
  );
  gauge(
    "pgbackrest_wal_archive_status",
    "1 when the archive has a first and a last segment",
    ["database_id", "pg_version", "repo_key", "stanza"],
    (g) => {
      for (const { stanza, info } of answers()) {
        for (const { id, database, min, max } of info?.archive ?? []) {
          const [version = ""] = id.split("-");
          const labels = {
            stanza,
            pg_version: version,
            database_id: String(database.id),
            repo_key: String(database["repo-key"]),
          };
          g.set(labels, min && max ? 1 : 0);
        }
      }
    },
  );
  const each = (name: string, help: string, value: (archive: StanzaArchive) => number | null) =>
    gauge(name, help, ["stanza", "repo_key"], (g) => {
      for (const archive of archives()) {
        const number = value(archive);
        if (number !== null) g.set({ stanza: archive.stanza, repo_key: String(archive.repo) }, number);
      }
    });
  const age = (second: number | undefined) => (second === undefined ? null : Math.max(0, Date.now() / 1000 - second));
  each("patroni_restore_wal_newest_age_seconds", "age of the newest archived segment", ({ state }) =>
    age(state.newest?.storedAt),
  );
  each("patroni_restore_wal_restorable_age_seconds", "age of the last segment before the first gap", ({ state }) =>
    age(state.restorable?.storedAt),
  );
  each("patroni_restore_wal_missing_segments", "segments that were archived and are gone, or never came", ({ state }) =>
    lostGaps(state, new Date()).reduce((sum, { segments }) => sum + segments, 0),
  );
  each(
    "patroni_restore_wal_unusable_backups",
    "backup sets without their own WAL",
    ({ state }) => state.unusable.length,
  );
}

function jobMetrics(gauge: MakeGauge, { jobs, stanzas, skippedSchedules, version }: Sources): void {
  gauge("patroni_restore_build_info", "1, with the version", ["version"], (g) => g.set({ version }, 1));
  gauge("pgbackrest_stanza_backup_lock_status", "1 while a backup or expire of the API runs", ["stanza"], (g) => {
    const busy = new Set(
      jobs
        .list()
        .filter((job) => !hasEnded(job) && (job.command === "backup" || job.command === "expire"))
        .map(({ stanza }) => stanza),
    );
    for (const stanza of stanzas) g.set({ stanza }, busy.has(stanza) ? 1 : 0);
  });
  gauge("pgbackrest_stanza_backup_complete_bytes", "of the running backup, as far as it is done", ["stanza"], (g) => {
    for (const stanza of stanzas) g.set({ stanza }, 0);
    for (const { label, stanza } of jobs.list("backup")) {
      const progress = jobs.progress(label);
      if (progress !== null) g.set({ stanza }, progress.bytes);
    }
  });
  gauge("patroni_restore_backup_progress_ratio", "of the running backup, 0 to 1", ["stanza"], (g) => {
    for (const { label, stanza } of jobs.list("backup")) {
      const progress = jobs.progress(label);
      if (progress !== null) g.set({ stanza }, progress.fraction);
    }
  });
  gauge("patroni_restore_jobs", "what the API remembers", ["command", "stanza", "status"], (g) => {
    for (const stanza of stanzas) {
      for (const command of JOB_COMMANDS) {
        for (const status of JOB_STATUSES) {
          const count = jobs.list(command).filter((job) => job.stanza === stanza && job.status === status).length;
          g.set({ command, stanza, status }, count);
        }
      }
    }
  });
  gauge("patroni_restore_job_last_success", "1 when the last one succeeded", ["command", "stanza"], (g) => {
    for (const stanza of stanzas) {
      for (const command of JOB_COMMANDS) {
        const last = jobs.list(command).findLast((job) => job.stanza === stanza && hasEnded(job));
        if (last !== undefined) g.set({ command, stanza }, last.status === "FINISHED" ? 1 : 0);
      }
    }
  });
  gauge("patroni_restore_journal_failures", "entries of the journal that could not be written", [], (g) =>
    g.set(jobs.journalFailures()),
  );
  gauge("patroni_restore_schedule_skipped", "backups of the schedules that were not started", [], (g) =>
    g.set(skippedSchedules()),
  );
}
