/** What `mark` learned on the source while it placed the marker: enough to know the restore again. */

import { gunzipSync, gzipSync } from "node:zlib";
import { z } from "zod";
import { RestoreError } from "../errors.ts";
import { type Manifest, manifestSchema, PackedQuestion, packManifest } from "../manifest/schema.ts";
import { formatSize } from "../units.ts";

/** 2: the manifest object by object, with tables by block range. */
export const RECEIPT_SCHEMA_VERSION = 2;

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
  manifest: manifestSchema,
  /** The user's queries as they were asked, so that the restore is asked the same. */
  queries: z.array(z.strictObject({ name: z.string(), database: z.string(), sql: z.string() })),
});
export type Receipt = z.infer<typeof receiptSchema>;

/** A ConfigMap holds 1 MiB; up to this length people may want to read it. */
const PLAIN_LENGTH = 256 * 1024;

/** Most of a large receipt is its manifest: that part is then gzip in base64. */
export function formatReceipt(receipt: Receipt): string {
  const packed: Buffer[] = [];
  let length = 0;
  let text = "";
  const pack = () => {
    packed.push(gzipSync(text, { level: 9 }));
    text = "";
  };
  // Members of one gzip file, so that the whole is never in memory as text.
  for (const piece of piecesOf(receipt.manifest)) {
    length += piece.length;
    text += piece;
    if (text.length > PIECE_LENGTH) pack();
  }
  if (length <= PLAIN_LENGTH) {
    const plain = `${JSON.stringify(receipt, null, 1)}\n`;
    if (plain.length <= PLAIN_LENGTH) return plain;
  }
  pack();
  const manifest = { gzip: Buffer.concat(packed).toString("base64") };
  return `${JSON.stringify({ ...receipt, manifest }, null, 1)}\n`;
}

const PIECE_LENGTH = 1024 ** 2;

/** Its JSON. */
function* piecesOf({ objects, ...others }: Manifest): Generator<string> {
  yield `${JSON.stringify(others).slice(0, -1)},"objects":[`;
  for (const [i, question] of objects.entries()) {
    const { database, question: name, moved, complete, digests } = PackedQuestion.of(question);
    const about = JSON.stringify({ database, question: name, moved, complete });
    yield `${i === 0 ? "" : ","}${about.slice(0, -1)},"objects":{`;
    let comma = "";
    for (let n = 0; n < digests.parts; n++) {
      const part = digests.part(n, digests.parts);
      if (part.length === 0) continue;
      yield comma + JSON.stringify(Object.fromEntries(part)).slice(1, -1);
      comma = ",";
    }
    yield "}}";
  }
  yield "]}";
}

/** Throws SETTINGS_INVALID that names the file and what is wrong with it. */
export function parseReceipt(text: string, path: string): Receipt {
  let json: unknown;
  try {
    json = unpack(JSON.parse(text));
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", `the receipt ${path} is not JSON`, {
      hint: "give the file that mark wrote",
      cause: error,
    });
  }
  const version = (json as { schema_version?: unknown } | null)?.schema_version;
  if (typeof version === "number" && version !== RECEIPT_SCHEMA_VERSION) {
    throw new RestoreError(
      "SETTINGS_INVALID",
      `the receipt ${path} is of version ${version}; this patroni-restore reads version ${RECEIPT_SCHEMA_VERSION}`,
      { hint: "mark the service again, with the same version of patroni-restore as here" },
    );
  }
  const parsed = receiptSchema.safeParse(json);
  if (parsed.success) {
    return { ...parsed.data, manifest: packManifest(parsed.data.manifest) };
  }
  const issue = parsed.error.issues[0];
  throw new RestoreError(
    "SETTINGS_INVALID",
    `the receipt ${path} is not valid: ${issue?.path.join(".") || "its content"}: ${issue?.message}`,
    { hint: "give the file that mark wrote, of the same version of patroni-restore" },
  );
}

function unpack(json: unknown): unknown {
  const manifest = (json as { manifest?: unknown } | null)?.manifest;
  const packed = (manifest as { gzip?: unknown } | null | undefined)?.gzip;
  if (typeof packed !== "string") return json;
  return {
    ...(json as object),
    manifest: JSON.parse(gunzipSync(Buffer.from(packed, "base64"), { chunkSize: PIECE_LENGTH }).toString("utf8")),
  };
}

/** How much of the source stood still, and how much was looked at. */
export function measureManifest({ objects, tables }: Manifest) {
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  const blockBytes = 8192;
  return {
    objects: sum(objects.map((o) => PackedQuestion.of(o).digests.length)),
    objectsMoved: sum(objects.map((o) => o.moved.length)),
    tables: tables.length,
    ranges: sum(tables.map((t) => t.ranges.length)),
    rangesMoved: sum(tables.map((t) => t.moved)),
    rows: sum(tables.flatMap((t) => t.ranges.map(([, , count]) => count))),
    bytes: sum(
      tables.flatMap((t) =>
        t.ranges.map(([from, to]) => Math.max(0, Math.min(to ?? t.blocks, t.blocks) - from) * blockBytes),
      ),
    ),
    allBytes: sum(tables.map((t) => t.blocks * blockBytes)),
  };
}

/** For people: one aligned line per thing. */
export function describeReceipt(receipt: Receipt): string {
  const m = measureManifest(receipt.manifest);
  const moved = receipt.manifest.queries.filter((query) => query.moved).length;
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
    ["objects", `${m.objects} stood still, ${m.objectsMoved} in motion`],
    [
      "table rows",
      `${m.rows} in ${m.ranges} block ranges of ${m.tables} tables stood still, ${m.rangesMoved} ranges in motion; ` +
        `${formatSize(m.bytes)} of ${formatSize(m.allBytes)}`,
    ],
    ...(receipt.manifest.queries.length === 0
      ? []
      : [["queries", `${receipt.manifest.queries.length - moved} stable, ${moved} in motion`] as [string, string]]),
    ...(receipt.manifest.not_covered.length === 0
      ? []
      : [["not covered", describeNotCovered(receipt.manifest)] as [string, string]]),
  ];
  return lines.map(([name, value]) => `${name.padEnd(14)} ${value}`).join("\n");
}

function describeNotCovered({ not_covered: list }: Manifest): string {
  const shown = list.slice(0, 3).map((n) => `${n.database === null ? "" : `${n.database}: `}${n.what} (${n.why})`);
  return `${shown.join("; ")}${list.length > 3 ? ` and ${list.length - 3} more` : ""}`;
}
