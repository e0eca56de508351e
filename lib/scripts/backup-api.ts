import { dirname, join, resolve } from "node:path";
import { BACKUP_API_OPTIONS, endLimit, serve } from "../backup-api/serve.ts";
import type { Script } from "../cli.ts";
import { RestoreError } from "../errors.ts";
import { refuseSecretFlag } from "../settings.ts";
import { VERSION } from "../version.ts";

export const script: Script<(typeof BACKUP_API_OPTIONS)[number]> = {
  name: "backup-api",
  summary: "Serve an HTTP API for pgBackRest backups, as a sidecar next to the database.",
  description:
    "POST /backups starts a backup, GET /backups lists them, GET / explains the rest. What it started is remembered in " +
    "--state-dir. It listens on loopback; beyond that it needs a token and TLS, or --insecure. SIGTERM lets a running " +
    "backup go on for --stop-grace and then ends it cleanly. Several stanzas are separated by commas; without --stanza the " +
    "environment's PGBACKREST_STANZA is served.",
  options: BACKUP_API_OPTIONS,
  examples: [
    'backup-api.mjs --stanza main --state-dir /var/lib/patroni-restore\ncurl -X POST --data \'{"type": "full"}\' http://127.0.0.1:8081/backups',
    "# for other pods\nbackup-api.mjs --stanza main --listen :8081 --token-file /etc/backup-api/token \\\n" +
      "  --tls-cert-file /etc/backup-api/tls.crt --tls-key-file /etc/backup-api/tls.key --log-format json",
    "# a full backup on Sundays and a differential one on the other days, without Kubernetes: in /etc/patroni-restore.yml\n" +
      'schedules:\n  - { cron: "0 1 * * 0", type: full, time_zone: Europe/Berlin }\n' +
      '  - { cron: "0 1 * * 1-6", type: diff, time_zone: Europe/Berlin }',
  ],
  async run({ settings, flags, log, signal, endWithin }) {
    refuseSecretFlag(flags, "conninfo");
    endWithin(endLimit(settings.stopGrace));
    // pgBackRest takes a relative one for absolute.
    const config = settings.pgbackrestConfig;
    await serve({
      settings: config === undefined ? settings : { ...settings, pgbackrestConfig: resolve(config) },
      stanzas: parseStanzas(settings.stanza ?? process.env.PGBACKREST_STANZA),
      restoreTestScript: join(dirname(process.argv[1] ?? ""), "restore-test.mjs"),
      version: VERSION,
      log,
      signal,
    });
    throw signal.reason;
  },
};

function parseStanzas(text: string | undefined): string[] {
  const stanzas = [...new Set((text ?? "").split(",").map((name) => name.trim()))].filter((name) => name !== "");
  if (stanzas.length > 0) return stanzas;
  throw new RestoreError("SETTINGS_INVALID", "--stanza is missing", {
    hint: "give --stanza NAME, RESTORE_STANZA, PGBACKREST_STANZA or stanza in the settings file",
  });
}
