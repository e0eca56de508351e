/**
 * A store that fails before or during a restore: an error that names the cause, within limits, never a healthy verdict,
 * nothing left; and the same command succeeds when the store is back.
 */

import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { EXIT_CODES, type ErrorCode } from "../../../lib/errors.ts";
import type { Report } from "../../../lib/report/report.ts";
import { useLab } from "../fixture.ts";
import { processesOf, type RunResult } from "../process.ts";
import { backup, createStanza, markAndWait, pgbackrest, type Source, startSource, value } from "../source.ts";
import { startCeph } from "./ceph.ts";
import { type Fault, startFaultProxy } from "./fault-proxy.ts";
import { configure } from "./store.ts";
import { makeCertificates } from "./tls.ts";

/** pgBackRest's own limits, short enough to be waited for. */
const LIMITS = { "io-timeout": 3, "db-timeout": 10, "protocol-timeout": 20, "job-retry-interval": "1" };

const lab = useLab("faults", async (lab) => {
  const ceph = await startCeph(lab);
  const source = await startSource(lab, { stanza: "svc", pgbackrest: ceph.settings("read-write") });
  await pgbackrest(lab, { ...source }, "--repo=1", "repo-create").catch(() => {});
  await lab.mustRun("pgbackrest", [`--config=${source.pgbackrestConfig}`, "--repo=1", "repo-create"]);
  await createStanza(lab, source);
  await backup(lab, source, "full");
  const { file: receipt } = await markAndWait(lab, source);
  const proxy = await startFaultProxy(lab, ceph.port, ceph.certificates);
  const through = (name: string, settings: Readonly<Record<string, string | number>> = {}) =>
    configure(lab, source, name, { ...ceph.settings("read-only", proxy.port), ...LIMITS, ...settings });
  const stranger = await makeCertificates(lab, "stranger");
  const work = await lab.makeDirectory("work");
  return { ceph, source, receipt, proxy, through, reader: await through("reader"), stranger, work };
});
