import type { Script } from "../cli.ts";
import { writeAtomically } from "../io/files.ts";
import { checkSource, manifestInput, mark, requireWritable } from "../mark/mark.ts";
import { describeReceipt, formatReceipt } from "../mark/receipt.ts";
import { refuseSecretFlag } from "../settings.ts";

export const MARK_OPTIONS = [
  "source",
  "receipt",
  "timeout",
  "archiveTimeout",
  "keepMarkers",
  "manifestBudget",
  "manifestTimeout",
  "manifestConnections",
  "queries",
  "json",
  "dryRun",
] as const;

export const script: Script<(typeof MARK_OPTIONS)[number]> = {
  name: "mark",
  summary: "Place the marker of a restore test on a service and write the receipt.",
  description:
    "A row before the recovery target and one after it are committed in the schema patroni_restore of database postgres, " +
    "and their WAL is archived when this returns 0. The receipt holds the target and what the source says about itself.",
  options: MARK_OPTIONS,
  required: ["source", "receipt"],
  examples: [
    'mark --source "host=db1 user=postgres" --receipt /var/lib/restore/receipt.json',
    'RESTORE_SOURCE="host=db1 user=postgres password=…" mark --receipt receipt.json --json',
    'mark --source "host=db1 user=postgres" --receipt receipt.json --dry-run',
  ],
  async run({ settings, flags, log, signal, print }) {
    refuseSecretFlag(flags, "source");
    const receiptFile = settings.receipt as string;
    await requireWritable(receiptFile);
    const input = {
      source: settings.source as string,
      queries: settings.queries ?? [],
      timeoutMs: settings.timeout,
      archiveTimeoutMs: settings.archiveTimeout,
      keepMarkersMs: settings.keepMarkers,
      manifest: manifestInput(settings),
    };
    if (settings.dryRun) {
      const { serverVersion, systemIdentifier, timeline, databases } = await checkSource(input, { log, signal });
      const source = { server_version: serverVersion, system_identifier: systemIdentifier, timeline, databases };
      print(
        settings.json
          ? JSON.stringify({ dry_run: true, ...source })
          : `the source can be marked: PostgreSQL ${serverVersion}, timeline ${timeline}, databases ${databases.join(", ")}; nothing was changed`,
      );
      return;
    }
    const receipt = await mark(input, { log, signal });
    const text = formatReceipt(receipt);
    await writeAtomically(receiptFile, text);
    print(settings.json ? text : `${describeReceipt(receipt)}\n${"receipt".padEnd(14)} ${receiptFile}`);
  },
};
