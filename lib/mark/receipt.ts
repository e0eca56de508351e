/** What `mark` learned on the source while it placed the marker: enough to know the restore again. */

import { z } from "zod";
import { RestoreError } from "../errors.ts";

export const RECEIPT_SCHEMA_VERSION = 1;

/** One thing the source answered about itself, taken before the marker (S1) and after the target (S2). */
export const manifestEntrySchema = z.strictObject({
  /** Stable and readable: `roles`, `databases`, `app: tables`, `app: query "orders"`. */
  id: z.string(),
  /** The database to ask, null for what belongs to the whole cluster (asked in `postgres`). */
  database: z.string().nullable(),
  /** Key of the question in `lib/mark/manifest-questions.ts`. */
  question: z.string(),
  /** Rows of the answer at S2. */
  count: z.number().int(),
  /** SHA-256 of the answer at S2, hexadecimal. */
  digest: z.string(),
  /** True when S1 and S2 differed: in motion, so it proves nothing and counts as not covered. */
  moved: z.boolean(),
});
export type ManifestEntry = z.infer<typeof manifestEntrySchema>;

export const receiptSchema = z.strictObject({
  schema_version: z.literal(RECEIPT_SCHEMA_VERSION),
  id: z.string().min(1),
  marked_at: z.string(),
  target: z.strictObject({
    /** The source's clock after the marker's commit: `YYYY-MM-DD HH:MM:SS.ffffff+00`. */
    time: z.string(),
    lsn: z.string(),
    /** Name of the restore point between marker and fence. */
    name: z.string(),
  }),
  /** The WAL segment that must be in the archive for recovery to reach the target. */
  fence_wal: z.string(),
  fence_lsn: z.string(),
  timeline: z.number().int().positive(),
  system_identifier: z.string(),
  /** `server_version` as PostgreSQL prints it. */
  server_version: z.string(),
  server_version_num: z.number().int(),
  wal_segment_size: z.number().int().positive(),
  data_checksums: z.boolean(),
  databases: z.array(z.string()),
  superusers: z.array(z.string()),
  shared_preload_libraries: z.string(),
  manifest: z.array(manifestEntrySchema),
  /** The user's queries as they were asked, so that the restore is asked the same. */
  queries: z.array(z.strictObject({ name: z.string(), database: z.string(), sql: z.string() })),
});
export type Receipt = z.infer<typeof receiptSchema>;

/** Throws SETTINGS_INVALID that names the file and what is wrong with it. */
export function parseReceipt(text: string, path: string): Receipt {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", `the receipt ${path} is not JSON`, {
      hint: "give the file that mark wrote",
      cause: error,
    });
  }
  const parsed = receiptSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new RestoreError(
    "SETTINGS_INVALID",
    `the receipt ${path} is not valid: ${issue?.path.join(".") || "its content"}: ${issue?.message}`,
    { hint: "give the file that mark wrote, of the same version of patroni-restore" },
  );
}

/** For people: one aligned line per thing. */
export function describeReceipt(receipt: Receipt): string {
  const moved = receipt.manifest.filter((entry) => entry.moved).length;
  const lines: [string, string][] = [
    ["marker", `${receipt.id} at ${receipt.marked_at}`],
    ["target", receipt.target.time],
    ["restore point", `${receipt.target.name} at ${receipt.target.lsn}`],
    ["fence", `${receipt.fence_lsn} in WAL ${receipt.fence_wal}, archived`],
    [
      "source",
      `PostgreSQL ${receipt.server_version}, system identifier ${receipt.system_identifier}, timeline ${receipt.timeline}`,
    ],
    ["databases", receipt.databases.join(", ")],
    ["manifest", `${receipt.manifest.length} answers, ${receipt.manifest.length - moved} stable, ${moved} in motion`],
  ];
  return lines.map(([name, value]) => `${name.padEnd(14)} ${value}`).join("\n");
}
