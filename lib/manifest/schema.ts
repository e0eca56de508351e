/** The manifest as a receipt holds it, and how two snapshots become one: equal both times is proof, anything else was in motion. */

import { setImmediate as turn } from "node:timers/promises";
import { z } from "zod";
import { Packed, PackedRows } from "../packed.ts";
import type { Basis, Snapshot, TableAnswer } from "./manifest.ts";
import { byName, type ObjectAnswer, type QuestionAnswers } from "./objects.ts";
import { stoodStill } from "./queries.ts";

const text = z.string();
const count = z.number().int().nonnegative();

export const manifestSchema = z.strictObject({
  /** Oldest transaction that was running when the manifest was begun (32 bits): only what is older is compared. */
  horizon: text,
  /** First transaction ID that was not given out yet when it was finished (32 bits). */
  next_xid: text,
  /** Chose the blocks, and goes into their digests. */
  seed: text,
  objects: z.array(
    z.strictObject({
      /** Null for what belongs to the whole cluster. */
      database: text.nullable(),
      question: text,
      /** Digest of the definition, by name: what stood still. */
      objects: z.record(text, text),
      /** Names of what was in motion: proves nothing. */
      moved: z.array(text),
      /** False when locked objects had to be left out: what is here and not listed proves nothing either. */
      complete: z.boolean(),
    }),
  ),
  sequences: z.array(
    z.strictObject({
      database: text,
      name: text,
      last_value: text,
      is_called: z.boolean(),
      increment: text,
      cache: text,
      cycle: z.boolean(),
    }),
  ),
  /** Sequences whose values were in motion. */
  sequences_moved: count,
  tables: z.array(
    z.strictObject({
      database: text,
      name: text,
      /** With TOAST, on the source. */
      bytes: count,
      blocks: count,
      /** First block, block after the last (null: the end), rows, digest. */
      ranges: z.array(z.tuple([count, count.nullable(), count, text])),
      /** Ranges that were read and in motion. */
      moved: count,
    }),
  ),
  queries: z.array(
    z.strictObject({
      database: text,
      name: text,
      count,
      digest: text,
      moved: z.boolean(),
      /** Whether nothing that it reads changed: only then is another result in the restore certainly damage. */
      still: z.boolean(),
    }),
  ),
  /** Collations whose recorded version was not the one of the source's libraries either. */
  collation_mismatches: z
    .array(z.strictObject({ database: text, name: text, recorded: text, actual: text }))
    .default([]),
  /** What the source was not asked or could not answer. */
  not_covered: z.array(z.strictObject({ database: text.nullable(), what: text, why: text })),
});
export type Manifest = z.infer<typeof manifestSchema>;

type ManifestQuestion = Manifest["objects"][number];

/** What a receipt holds of it, compressed while nobody looks at it. */
export class PackedQuestion implements ManifestQuestion {
  readonly database: string | null;
  readonly question: string;
  readonly complete: boolean;
  /** By name. */
  readonly digests: PackedRows<[name: string, digest: string]>;
  private readonly names: Packed<string[]>;

  constructor(
    { database, question, complete }: Pick<ManifestQuestion, "database" | "question" | "complete">,
    digests: PackedRows<[string, string]>,
    moved: readonly string[],
  ) {
    this.database = database;
    this.question = question;
    this.complete = complete;
    this.digests = digests;
    this.names = Packed.of([...moved]);
  }

  static of(question: ManifestQuestion): PackedQuestion {
    if (question instanceof PackedQuestion) return question;
    return new PackedQuestion(question, PackedRows.of(Object.entries(question.objects)), question.moved);
  }

  get objects(): Record<string, string> {
    return Object.fromEntries(this.digests);
  }
  get moved(): string[] {
    return this.names.read();
  }

  toJSON(): ManifestQuestion {
    const { database, question, objects, moved, complete } = this;
    return { database, question, objects, moved, complete };
  }
}

/** The same, of which what is long is unpacked whenever it is asked for. */
export function packManifest(manifest: Manifest): Manifest {
  const tables = Packed.of(manifest.tables);
  return {
    ...manifest,
    objects: manifest.objects.map(PackedQuestion.of),
    get tables() {
      return tables.read();
    },
  };
}

export async function mergeSnapshots(
  basis: Basis,
  first: Snapshot,
  second: Snapshot,
  nextXid: string,
): Promise<Manifest> {
  const sequences = mergeSequences(first, second);
  return {
    horizon: basis.horizon.xid,
    next_xid: nextXid,
    seed: basis.seed,
    objects: await mergeObjects(first, second),
    sequences: sequences.still,
    sequences_moved: sequences.moved,
    tables: mergeTables(first.tables, second.tables, second.moved),
    queries: second.queries.map((answer) => {
      const before = first.queries.find((q) => q.name === answer.name && q.database === answer.database);
      const same =
        before !== undefined &&
        answer.digest !== "" &&
        before.digest === answer.digest &&
        before.count === answer.count;
      const { name, database, count: rows, digest } = answer;
      return { database, name, count: rows, digest, moved: !same, still: same && stoodStill(before, answer) };
    }),
    collation_mismatches: first.collations,
    not_covered: notCovered(first, second),
  };
}

const questionKey = ({ database, question }: QuestionAnswers) => JSON.stringify([database, question]);

async function mergeObjects(first: Snapshot, second: Snapshot): Promise<Manifest["objects"]> {
  const known = new Map(first.objects.map((answers) => [questionKey(answers), answers]));
  const merged: PackedQuestion[] = [];
  for (const answers of second.objects) {
    const earlier = known.get(questionKey(answers));
    if (answers.problem !== undefined || earlier === undefined || earlier.problem !== undefined) continue;
    // Cluster-wide objects borrow from nothing but roles and the like, which the database `postgres` was asked about.
    const dependents = second.moved.get(answers.database ?? "postgres");
    merged.push(mergeAnswers(earlier, answers, (object) => dependents?.has(object) === false));
    // So that garbage can be collected in between.
    await turn();
  }
  return merged;
}

function mergeAnswers(
  earlier: QuestionAnswers,
  { database, question, objects, isPartial }: QuestionAnswers,
  stoodStill: (object: string) => boolean,
): PackedQuestion {
  const moved: string[] = [];
  const lists: Packed<[string, string][]>[] = [];
  let length = 0;
  const parts = Math.max(earlier.objects.parts, objects.parts);
  for (let n = 0; n < parts; n++) {
    const [before, after] = [byName(earlier.objects.part(n, parts)), byName(objects.part(n, parts))];
    const still: [string, string][] = [];
    for (const [name, b] of after) {
      const a = before.get(name);
      if (a !== undefined && isSame(a, b) && b.calm && stoodStill(b.object)) still.push([name, b.digest]);
      else moved.push(name);
    }
    for (const name of before.keys()) if (!after.has(name)) moved.push(name);
    lists.push(Packed.of(still));
    length += still.length;
  }
  const complete = isPartial !== true && earlier.isPartial !== true;
  return new PackedQuestion({ database, question, complete }, new PackedRows(length, lists), moved);
}

const isSame = (a: ObjectAnswer, b: ObjectAnswer) => a.digest === b.digest && a.version === b.version;

function mergeSequences(first: Snapshot, second: Snapshot): { still: Manifest["sequences"]; moved: number } {
  const before = new Map(
    first.sequences.flatMap(({ database, values }) => values.map((v) => [JSON.stringify([database, v.name]), v.state])),
  );
  const still: Manifest["sequences"] = [];
  let moved = 0;
  for (const { database, values } of second.sequences) {
    for (const value of values) {
      if (before.get(JSON.stringify([database, value.name])) !== value.state) moved++;
      else {
        const { name, lastValue, isCalled, increment, cache, cycle } = value;
        still.push({ database, name, last_value: lastValue, is_called: isCalled, increment, cache, cycle });
      }
    }
  }
  return { still, moved };
}

function mergeTables(
  first: readonly TableAnswer[],
  second: readonly TableAnswer[],
  moved: Snapshot["moved"],
): Manifest["tables"] {
  return second.flatMap(({ table, ranges }, i) => {
    // Its columns make the text that is digested: while they change, so may that.
    const isStill = moved.get(table.database)?.has(`pg_class:${table.oid}`) === false;
    const before = new Map((first[i] as TableAnswer).ranges.map((range) => [range.from, range]));
    const still = (isStill ? ranges : []).filter((range) => {
      const earlier = before.get(range.from);
      return range.unsettled === 0 && earlier?.count === range.count && earlier.digest === range.digest;
    });
    if (still.length === 0 && (first[i] as TableAnswer).ranges.length === 0) return [];
    return {
      database: table.database,
      name: table.name,
      bytes: table.bytes,
      blocks: table.blocks,
      ranges: still.map(({ from, to, count: rows, digest }): [number, number | null, number, string] => [
        from,
        to,
        rows,
        digest,
      ]),
      moved: (first[i] as TableAnswer).ranges.length - still.length,
    };
  });
}

function notCovered(first: Snapshot, second: Snapshot): Manifest["not_covered"] {
  const of = (snapshot: Snapshot): Manifest["not_covered"] => [
    ...snapshot.problems,
    ...snapshot.objects
      .filter((o) => o.problem !== undefined)
      .map((o) => ({ database: o.database, what: o.question, why: o.problem?.message ?? "" })),
    ...snapshot.tables
      .filter((t) => t.problem !== undefined)
      .map((t) => ({ database: t.table.database, what: `rows of ${t.table.name}`, why: t.problem as string })),
  ];
  const left = second.tables.reduce((ranges, t) => ranges + (t.problem === undefined ? t.left : 0), 0);
  if (left > 0)
    second.problems.push({ database: null, what: `${left} block ranges`, why: "the time limit was reached" });
  const seen = new Map(
    [...of(first), ...of(second)].map((entry) => [JSON.stringify([entry.database, entry.what]), entry]),
  );
  return [...seen.values()];
}
