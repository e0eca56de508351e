/** What is kept of the objects of a restore test: little, because there may be many and they are touched often. Pure. */

import type { KubernetesObject } from "../../io/kubernetes.ts";
import { REPORT_SCHEMA_VERSION, type Report } from "../../report/report.ts";
import {
  CANCELLED_ANNOTATION,
  EXPECTED_ANNOTATION,
  KEPT_LABEL,
  POD_ANNOTATION,
  REPORT_ANNOTATION,
  SERVICE_ANNOTATION,
  SERVICE_LABEL,
  TEST_LABEL,
} from "./names.ts";

export interface SetFacts {
  test: string;
  namespace: string;
  name: string;
  service: string;
  serviceHash: string;
  createdAt: Date;
  /** Null without a receipt. */
  expected: string | null;
  podUid: string | null;
  cancelledAt: string | null;
  isKept: boolean;
  isDeleting: boolean;
}

export interface PodFacts {
  uid: string;
  name: string;
  phase: string;
  /** Why it does not run: the scheduler's, the kubelet's or the container's own words. */
  trouble: string | null;
  /** A container runs or ran. */
  hasStarted: boolean;
  restarts: number;
  /** How its container ended the last time, if it did. */
  lastExit: string | null;
  isDeleting: boolean;
  /** Patroni's own: `running custom bootstrap script`, `running`, … */
  state: string | null;
  /** Null before bootstrap's first word. */
  report: Report | null;
}

/** Of `<scope>-config`: null is the key that is not there. */
export interface ConfigFacts {
  initialize: string | null;
}

/** Of `<scope>-leader`. */
export interface LeaderFacts {
  holder: string | null;
}

export const testOf = ({ metadata }: KubernetesObject): string | null => metadata.labels?.[TEST_LABEL] ?? null;

export function setFacts({ metadata }: KubernetesObject): SetFacts | null {
  const { labels = {}, annotations = {} } = metadata;
  const [test, service] = [labels[TEST_LABEL], annotations[SERVICE_ANNOTATION]];
  if (test === undefined || service === undefined) return null;
  return {
    test,
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    service,
    serviceHash: labels[SERVICE_LABEL] ?? "",
    createdAt: new Date(metadata.creationTimestamp ?? 0),
    expected: annotations[EXPECTED_ANNOTATION] ?? null,
    podUid: annotations[POD_ANNOTATION] ?? null,
    cancelledAt: annotations[CANCELLED_ANNOTATION] ?? null,
    isKept: labels[KEPT_LABEL] !== undefined,
    isDeleting: metadata.deletionTimestamp !== undefined,
  };
}

interface Ended {
  exitCode?: number;
  reason?: string;
  message?: string;
  signal?: number;
}

interface ContainerStatus {
  name: string;
  restartCount?: number;
  state?: { running?: object; terminated?: Ended; waiting?: { reason?: string; message?: string } };
  lastState?: { terminated?: Ended };
}

interface PodStatus {
  phase?: string;
  reason?: string;
  message?: string;
  conditions?: { type: string; status: string; reason?: string; message?: string }[];
  initContainerStatuses?: ContainerStatus[];
  containerStatuses?: ContainerStatus[];
}

export function podFacts({ metadata, status }: KubernetesObject): PodFacts {
  const { phase = "Pending", reason, message, conditions = [], ...containers } = (status ?? {}) as PodStatus;
  const own = containers.containerStatuses ?? [];
  const all = [...(containers.initContainerStatuses ?? []), ...own];
  const unscheduled = conditions.find((it) => it.type === "PodScheduled" && it.status === "False");
  const waiting = all.find(({ state }) => state?.waiting !== undefined)?.state?.waiting;
  const ended = own
    .map(({ state, lastState }) => state?.terminated ?? lastState?.terminated)
    .find((it) => it !== undefined);
  const annotations = metadata.annotations ?? {};
  return {
    uid: metadata.uid ?? "",
    name: metadata.name,
    phase,
    trouble:
      phase === "Failed"
        ? inWords(reason ?? "Failed", message)
        : waiting?.reason !== undefined && !["ContainerCreating", "PodInitializing"].includes(waiting.reason)
          ? inWords(waiting.reason, waiting.message)
          : unscheduled !== undefined
            ? inWords(unscheduled.reason ?? "Unschedulable", unscheduled.message)
            : null,
    hasStarted: own.some(
      ({ state, restartCount = 0 }) =>
        state?.running !== undefined || state?.terminated !== undefined || restartCount > 0,
    ),
    restarts: Math.max(
      0,
      ...own.map(({ restartCount = 0, state }) => restartCount + (state?.terminated === undefined ? 0 : 1)),
    ),
    lastExit: ended === undefined ? null : exitInWords(ended),
    isDeleting: metadata.deletionTimestamp !== undefined,
    state: patroniState(annotations.status),
    report: reportIn(annotations[REPORT_ANNOTATION]),
  };
}

const inWords = (reason: string, message: string | undefined) =>
  message === undefined || message === "" ? reason : `${reason}: ${message}`;

function exitInWords({ exitCode, reason, message, signal }: Ended): string {
  const how = signal === undefined ? `exit code ${exitCode ?? "unknown"}` : `signal ${signal}`;
  const why = reason === undefined || reason === "Error" || reason === "Completed" ? "" : `${reason}, `;
  const said = message === undefined || message.trim() === "" ? "" : `: ${message.trim().slice(-300)}`;
  return `${why}${how}${said}`;
}

function patroniState(status: string | undefined): string | null {
  try {
    const { state } = JSON.parse(status ?? "{}") as { state?: unknown };
    return typeof state === "string" ? state : null;
  } catch {
    return null;
  }
}

/** Null when it is none that this version reads. */
function reportIn(text: string | undefined): Report | null {
  if (text === undefined) return null;
  try {
    const report = JSON.parse(text) as Partial<Report> | null;
    const isOurs = report?.schema_version === REPORT_SCHEMA_VERSION && Array.isArray(report.phases);
    return isOurs ? (report as Report) : null;
  } catch {
    return null;
  }
}

export const configFacts = ({ metadata }: KubernetesObject): ConfigFacts => ({
  initialize: metadata.annotations?.initialize ?? null,
});

export const leaderFacts = ({ metadata }: KubernetesObject): LeaderFacts => ({
  holder: metadata.annotations?.leader || null,
});
