/** `pg_controldata`, run with LC_ALL=C. */

export interface ControlData {
  /** `shut down`, `in production`, `in archive recovery`, … */
  state: string;
  systemIdentifier: string;
  timeline: number;
  checkpointLsn: string;
  dataChecksums: boolean;
  walSegmentSize: number;
  /** What a hot standby must at least have, by PostgreSQL's own setting names. */
  required: Record<string, number>;
}

/** Settings that recovery with `hot_standby` compares with the primary's (PostgreSQL 15, access/transam/xlogrecovery.c). */
const REQUIRED: Record<string, string> = {
  max_connections: "max_connections setting",
  max_worker_processes: "max_worker_processes setting",
  max_wal_senders: "max_wal_senders setting",
  max_prepared_transactions: "max_prepared_xacts setting",
  max_locks_per_transaction: "max_locks_per_xact setting",
};

export function parseControlData(text: string): ControlData {
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) values.set(line.slice(0, colon).trim(), line.slice(colon + 1).trim());
  }
  const value = (name: string) => {
    const found = values.get(name);
    if (found === undefined) throw new Error(`pg_controldata printed no "${name}"`);
    return found;
  };
  return {
    state: value("Database cluster state"),
    systemIdentifier: value("Database system identifier"),
    timeline: Number(value("Latest checkpoint's TimeLineID")),
    checkpointLsn: value("Latest checkpoint location"),
    dataChecksums: value("Data page checksum version") !== "0",
    walSegmentSize: Number(value("Bytes per WAL segment")),
    required: Object.fromEntries(Object.entries(REQUIRED).map(([setting, line]) => [setting, Number(value(line))])),
  };
}
