/**
 * What stands beside a data directory, never inside it: Patroni renames or adopts the directory as a whole, and these files
 * must still tell the truth afterwards (PATRONI: a restart adopts whatever lies in PGDATA and never runs post_bootstrap).
 */

import { z } from "zod";

export interface Paths {
  datadir: string;
  /** Everything happens here; one rename puts it in place. */
  restoring: string;
  /** Exists from the first moment of a restore until `post-bootstrap` has succeeded. */
  unproven: string;
  report: string;
  /** Log of the private postmaster. */
  recoveryLog: string;
  /** WAL that was fetched before recovery asked for it; goes with the end of recovery. */
  walAhead: string;
  /** Default place of tablespaces. */
  tablespaces: string;
  /** Patroni's name for the data directory of a failed bootstrap. */
  failed: string;
}

export function pathsOf(datadir: string): Paths {
  const base = datadir.replace(/\/+$/, "");
  return {
    datadir: base,
    restoring: `${base}.restoring`,
    unproven: `${base}.unproven`,
    report: `${base}.report.json`,
    recoveryLog: `${base}.recovery.log`,
    walAhead: `${base}.wal-ahead`,
    tablespaces: `${base}.tablespaces`,
    failed: `${base}.failed`,
  };
}

export const unprovenSchema = z.object({
  schema_version: z.literal(1),
  id: z.string(),
  scope: z.string().nullable(),
  stanza: z.string(),
  started_at: z.string(),
  /** The last phase that was entered. */
  phase: z.string(),
  /** The bootstrap process, with its start time from /proc so that a re-used number is not mistaken for it. */
  pid: z.number().int(),
  pid_started: z.string(),
  /** Attempts on this volume with the same request, this one included. */
  attempts: z.number().int(),
  /** The request: stanza, set and target. Another request starts counting anew. */
  request: z.string(),
  receipt: z.string().nullable(),
  report: z.string(),
  detach: z.enum(["restore-test", "clone"]),
  /** Directories outside the data directory that belong to it: tablespaces and linked directories. */
  linked: z.array(z.string()),
});
export type Unproven = z.infer<typeof unprovenSchema>;
