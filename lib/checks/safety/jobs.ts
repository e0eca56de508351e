/** Nothing in the instance acts on its own: logical replication workers, pg_cron, TimescaleDB's jobs. */

import { type Check, EVERY_LEVEL, enumerate } from "../check.ts";

export interface JobsFacts {
  max_logical_replication_workers: number;
  enabled_subscriptions: number;
  /** Null when pg_cron is not loaded: nothing can run then. `launch_active_jobs` is null before pg_cron 1.6. */
  cron: { launch_active_jobs: string | null; active_jobs: number } | null;
  /** Null when TimescaleDB is not loaded. */
  timescaledb: { max_background_workers: number } | null;
  /** Background processes of those libraries that run right now. */
  running: string[];
}

export const jobs: Check<JobsFacts> = {
  id: "jobs",
  claim: "safety",
  levels: EVERY_LEVEL,
  async collect(edge) {
    const facts = await edge.sql(null, async (database): Promise<JobsFacts & { cronDatabase: string | null }> => {
      const settings = await database.query<{ name: string; setting: string }>(
        `SELECT name, setting FROM pg_settings
          WHERE name LIKE 'cron.%' OR name LIKE 'timescaledb.%' OR name = 'max_logical_replication_workers'`,
      );
      const setting = (name: string) => settings.find((s) => s.name === name)?.setting ?? null;
      const loaded = (prefix: string) => settings.some((s) => s.name.startsWith(prefix));
      const { enabled } = await database.row<{ enabled: string }>(
        "SELECT count(*)::text AS enabled FROM pg_subscription WHERE subenabled",
      );
      const running = await database.query<{ name: string }>(
        `SELECT DISTINCT backend_type AS name FROM pg_stat_activity
          WHERE backend_type ~* 'pg_cron|timescaledb|logical replication (apply |tablesync |parallel )?worker' ORDER BY 1`,
      );
      return {
        max_logical_replication_workers: Number(setting("max_logical_replication_workers")),
        enabled_subscriptions: Number(enabled),
        cron: loaded("cron.") ? { launch_active_jobs: setting("cron.launch_active_jobs"), active_jobs: 0 } : null,
        cronDatabase: setting("cron.database_name"),
        timescaledb: loaded("timescaledb.")
          ? { max_background_workers: Number(setting("timescaledb.max_background_workers") ?? 0) }
          : null,
        running: running.map((row) => row.name),
      };
    });
    const { cronDatabase, ...rest } = facts;
    if (rest.cron === null || cronDatabase === null) return rest;
    const active_jobs = await edge.sql(cronDatabase, async (database) => {
      const { created } = await database.row<{ created: string }>(
        "SELECT (to_regclass('cron.job') IS NOT NULL)::text AS created",
      );
      if (created === "false") return 0;
      return Number((await database.row<{ n: string }>("SELECT count(*)::text AS n FROM cron.job WHERE active")).n);
    });
    return { ...rest, cron: { ...rest.cron, active_jobs } };
  },
  judge(facts) {
    const { cron, timescaledb } = facts;
    const live: string[] = [];
    if (facts.max_logical_replication_workers > 0 && facts.enabled_subscriptions > 0) {
      live.push(
        `max_logical_replication_workers = ${facts.max_logical_replication_workers} with an enabled subscription`,
      );
    }
    if (cron !== null && cron.launch_active_jobs !== "off") {
      if (cron.launch_active_jobs !== null) live.push(`cron.launch_active_jobs = ${cron.launch_active_jobs}`);
      // An older pg_cron cannot be told to hold still: its jobs themselves must be inactive.
      else if (cron.active_jobs > 0) live.push(`${cron.active_jobs} active jobs of pg_cron`);
    }
    if (timescaledb !== null && timescaledb.max_background_workers > 0) {
      live.push(`timescaledb.max_background_workers = ${timescaledb.max_background_workers}`);
    }
    if (live.length > 0) {
      return {
        status: "fail",
        summary: `jobs of the source can run here: ${enumerate(live)}`,
        hint: "set cron.launch_active_jobs=off and timescaledb.max_background_workers=0 in Patroni's local postgresql.parameters",
      };
    }
    const loaded = [cron === null ? null : "pg_cron", timescaledb === null ? null : "TimescaleDB"].filter(
      (x) => x !== null,
    );
    return {
      status: "pass",
      summary:
        loaded.length === 0
          ? "neither pg_cron nor TimescaleDB is loaded"
          : `${loaded.join(" and ")} is loaded, its jobs are off`,
    };
  },
};
