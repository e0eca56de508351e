/** Settings, services and objects as tests need them. */

import type { RunnerSettings } from "../../../lib/fleet/kubernetes/runner.ts";
import type { WatchSettings } from "../../../lib/fleet/kubernetes/watch.ts";
import type { Service } from "../../../lib/fleet/service.ts";
import { newTestId, type Test } from "../../../lib/fleet/test.ts";
import type { KubernetesObject } from "../../../lib/io/kubernetes.ts";
import type { Log } from "../../../lib/log.ts";
import { newReport, type Report } from "../../../lib/report/report.ts";

export const silent: Log = { info() {}, warn() {}, error() {}, progress: () => ({ update() {}, end() {} }) };

const POLICY = {
  intervalMs: 86_400_000,
  jitterMs: 0,
  windows: [],
  afterBackups: null,
  isPaused: false,
  weight: 1,
};

export const WATCH: WatchSettings = {
  namespaces: null,
  selector: "application=patroni",
  scopeLabel: "cluster-name",
  watch: "configmaps",
  policy: POLICY,
  stanzaTemplate: "{scope}",
  sourceTemplate: "host={scope}.{namespace}.svc user=mark dbname=postgres",
  limits: { retryMs: 50, retryMaximumMs: 500, pageSize: 3 },
};

export const RUNNER: RunnerSettings = {
  testNamespace: "restore-tests",
  namespaces: null,
  scopeLabel: "cluster-name",
  template: null,
  limits: { tickMs: 200, orphanMs: 1500, pollMs: 100, goneMs: 10_000 },
  followLimits: { retryMs: 50, retryMaximumMs: 500 },
};

export const IDENTIFIER = "7300000000000000001";

export function testFor(service: Service, id: string = newTestId()): Test {
  const requestedAt = new Date();
  return {
    id,
    service: service.id,
    namespace: service.namespace,
    scope: service.scope,
    stanza: service.stanza,
    groups: {},
    weight: 1,
    reason: "it was never tested",
    requestedAt,
    deadlineAt: new Date(requestedAt.getTime() + 3_600_000),
    scheduler: "here",
  };
}

export const SERVICE: Service = {
  id: "databases/shop",
  namespace: "databases",
  scope: "shop",
  stanza: "shop",
  source: null,
  groups: {},
  policy: POLICY,
  settings: {},
  wanted: null,
  problem: null,
};

/** Patroni's leader object, as its ConfigMaps mode writes it. */
export const leaderObject = (
  namespace: string,
  scope: string,
  more: Partial<KubernetesObject["metadata"]> = {},
): KubernetesObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: {
    name: `${scope}-leader`,
    namespace,
    ...more,
    labels: { application: "patroni", "cluster-name": scope, ...more.labels },
    annotations: {
      leader: `${scope}-0`,
      ttl: "30",
      acquireTime: "2026-11-23T10:00:00.000000+00:00",
      renewTime: "2026-11-23T10:00:10.000000+00:00",
      transitions: "0",
      optime: "50331648",
      ...more.annotations,
    },
  },
});

export function reportOf(changes: Partial<Report> = {}): Report {
  const report = newReport({ id: "r1", scope: "shop-rt", stanza: "shop", startedAt: new Date("2026-11-23T10:00:00Z") });
  return { ...report, ...changes };
}

export const healthyReport = (): Report =>
  reportOf({
    verdict: "healthy",
    finished_at: new Date().toISOString(),
    phases: [
      { name: "restore", started_at: "2026-11-23T10:00:01Z", duration_ms: 1000 },
      { name: "recovery", started_at: "2026-11-23T10:00:02Z", duration_ms: 1000 },
      { name: "verify", started_at: "2026-11-23T10:00:03Z", duration_ms: 1000 },
    ],
    recovered: {
      lsn: "0/4000000",
      timeline: 2,
      parent_timeline: 1,
      last_commit_at: null,
      segments: 1,
      stop_reason: null,
      system_identifier: IDENTIFIER,
    },
  });
