/** Where everything of one restore test is: one private directory, so that nothing can be forgotten. */

import { pathsOf } from "../restore/state.ts";

export interface Layout {
  /** Eight hexadecimal digits. */
  id: string;
  /** Private (0700); the working directory of every process of the test. */
  directory: string;
  scope: string;
  namespace: string;
  datadir: string;
  /** For PostgreSQL's socket; nobody else can enter it. */
  socketDir: string;
  /** PostgreSQL's programs as Patroni sees them. */
  programs: string;
  /** For TMPDIR. */
  temporary: string;
  /** The running script's own file, copied: the hooks of the throwaway Patroni run from it. */
  script: string;
  hooksConfig: string;
  patroniConfig: string;
  receipt: string;
  previousReport: string;
  hba: string;
  pgpass: string;
  /** Output of Patroni, its hooks and PostgreSQL; with the direct runner of the hooks and PostgreSQL. */
  log: string;
  etcdLog: string;
  /** Of the hooks, beside the data directory. */
  report: string;
  unproven: string;
  recoveryLog: string;
}

export const DIRECTORY_NAME = /^restore-test-[0-9a-f]{8}$/;

export function makeLayout(workDir: string, stanza: string, id: string): Layout {
  const directory = `${workDir.replace(/\/+$/, "")}/restore-test-${id}`;
  const { datadir, report, unproven, recoveryLog } = pathsOf(`${directory}/data`);
  return {
    id,
    directory,
    scope: `${stanza}-rt-${id}`,
    namespace: "/patroni-restore-test/",
    datadir,
    socketDir: `${directory}/run`,
    programs: `${directory}/bin`,
    temporary: `${directory}/t`,
    script: `${directory}/restore-test.mjs`,
    hooksConfig: `${directory}/hooks.yml`,
    patroniConfig: `${directory}/patroni.yml`,
    receipt: `${directory}/receipt.json`,
    previousReport: `${directory}/previous-report.json`,
    hba: `${directory}/pg_hba.conf`,
    pgpass: `${directory}/pgpass`,
    log: `${directory}/patroni.log`,
    etcdLog: `${directory}/etcd.log`,
    report,
    unproven,
    recoveryLog,
  };
}

/** Where Patroni keeps the keys of the scope in etcd. */
export const dcsPrefix = (layout: Pick<Layout, "namespace" | "scope">) => `${layout.namespace}${layout.scope}/`;

/**
 * A socket's path must fit into 107 bytes (`sun_path` of unix(7)); the longest one here is that of the private postmaster
 * in its own temporary directory.
 */
export const longestSocketPath = (layout: Layout) => `${layout.temporary}/pr-4026531836-4194304-XXXXXX/.s.PGSQL.5432`;
export const SOCKET_PATH_LIMIT = 107;
