/** No setting of a recovery is left: it would come alive with the next start, or show that this one is not standalone. */

import { type Check, EVERY_LEVEL, enumerate } from "../check.ts";
import { errorCode } from "../failure.ts";

export interface RecoverySettingsFacts {
  /** Settings that are not at PostgreSQL's default, with the file they come from. */
  settings: { name: string; setting: string; source: string }[];
  /** recovery.signal, standby.signal; null when this role may not list the data directory. */
  signal_files: string[] | null;
}

export const recoverySettings: Check<RecoverySettingsFacts> = {
  id: "recovery-settings",
  claim: "safety",
  levels: EVERY_LEVEL,
  async collect(edge) {
    const settings = await edge.sql(null, (database) =>
      database.query<RecoverySettingsFacts["settings"][number]>(
        `SELECT name, setting, coalesce(sourcefile, source) AS source
           FROM pg_settings
          WHERE (name LIKE 'recovery\\_target%' OR name IN ('primary_conninfo', 'primary_slot_name', 'restore_command',
                 'archive_cleanup_command', 'recovery_end_command', 'recovery_min_apply_delay', 'promote_trigger_file'))
            AND setting IS DISTINCT FROM boot_val
          ORDER BY name`,
      ),
    );
    const signal_files = await edge
      .sql(null, (database) =>
        database.query<{ name: string }>(
          "SELECT name FROM pg_ls_dir('.') AS name WHERE name IN ('recovery.signal', 'standby.signal') ORDER BY 1",
        ),
      )
      .then(
        (rows) => rows.map((row) => row.name),
        (error) => {
          if (errorCode(error) === "42501") return null;
          throw error;
        },
      );
    // A primary_conninfo may hold a password.
    return { settings: settings.map((s) => ({ ...s, setting: redact(s.name, s.setting) })), signal_files };
  },
  judge({ settings, signal_files }) {
    const left = [
      ...settings.map((s) => `${s.name} = '${s.setting}' (${s.source})`),
      ...(signal_files ?? []).map((name) => `file ${name}`),
    ];
    if (left.length > 0) {
      return {
        status: "fail",
        summary: `settings of a recovery are left: ${enumerate(left)}`,
        hint: "the instance is not standalone: remove them and reload",
      };
    }
    if (signal_files === null) {
      return {
        status: "unverified",
        summary: "this role may not see whether a recovery.signal or standby.signal is left",
        hint: "connect as a superuser of the restored instance",
      };
    }
    return { status: "pass", summary: "no setting and no signal file of a recovery is left" };
  },
};

function redact(name: string, setting: string): string {
  return name === "primary_conninfo" ? setting.replace(/(password\s*=\s*)('(?:\\.|[^'])*'|\S+)/gi, "$1***") : setting;
}
