import { describe, expect, test } from "vitest";
import {
  configFacts,
  leaderFacts,
  type PodFacts,
  podFacts,
  type SetFacts,
  setFacts,
} from "../../../../lib/fleet/kubernetes/facts.ts";
import { OBSERVE_LIMITS, observe, type TestFacts, withoutSet } from "../../../../lib/fleet/kubernetes/observe.ts";
import type { KubernetesObject } from "../../../../lib/io/kubernetes.ts";
import { healthyReport, IDENTIFIER, reportOf } from "../../../lab/kubernetes/samples.ts";
import { captured } from "./captured.ts";

const NOW = new Date("2026-11-23T12:00:00Z");

const SET: SetFacts = {
  test: "0a1b2c3d",
  namespace: "restore-tests",
  name: "shop-rt-0a1b2c3d",
  service: "databases/shop",
  serviceHash: "1",
  createdAt: new Date("2026-11-23T11:59:00Z"),
  expected: IDENTIFIER,
  podUid: "pod-1",
  cancelledAt: null,
  isKept: false,
  isDeleting: false,
};

const POD: PodFacts = {
  uid: "pod-1",
  name: "shop-rt-0a1b2c3d-0",
  phase: "Running",
  trouble: null,
  hasStarted: true,
  restarts: 0,
  lastExit: null,
  isDeleting: false,
  state: "running custom bootstrap script",
  report: null,
};

type Facts = Omit<TestFacts, "set">;

const look = ({ set, ...facts }: Partial<Facts> & { set?: Partial<SetFacts> }, now = NOW) =>
  observe(
    { ...SET, ...set },
    { pod: POD, config: { initialize: "" }, leader: null, lastReport: null, ...facts },
    now,
    OBSERVE_LIMITS,
  );

const proven = { ...POD, state: "running", report: healthyReport() };
const led = { config: { initialize: IDENTIFIER }, leader: { holder: POD.name } };

describe("as Patroni and the API server left them", () => {
  const factsIn = (name: "healthy" | "restoring" | "failed"): Facts => {
    const objects = captured(`${name}-configmaps`);
    const named = (ending: string) => objects.find(({ metadata }) => metadata.name.endsWith(ending));
    const [config, leader] = [named("-config"), named("-leader")];
    const [pod] = captured(`${name}-pod`);
    return {
      pod: podFacts(pod as KubernetesObject),
      config: config === undefined ? null : configFacts(config),
      leader: leader === undefined ? null : leaderFacts(leader),
      lastReport: null,
    };
  };
  const set = { ...(setFacts(captured("healthy-set")[0] as KubernetesObject) as SetFacts), podUid: null };
  const at = (name: "healthy" | "restoring" | "failed", expected = set.expected) =>
    observe({ ...set, expected, createdAt: NOW }, factsIn(name), NOW, OBSERVE_LIMITS);

  test("a healthy one", () => {
    const { changes, end } = at("healthy");
    expect(changes.map(({ status }) => status)).toEqual(["restoring", "recovering", "verifying"]);
    expect(end).toMatchObject({ outcome: "healthy", error: null, report: { verdict: "healthy" } });
  });

  test("the same, where another cluster was expected", () => {
    expect(at("healthy", "7").end).toMatchObject({ outcome: "unhealthy", error: { name: "UNHEALTHY" } });
  });

  test("one that is in its bootstrap script", () => {
    const { changes, end } = at("restoring");
    expect([changes.map(({ status }) => status), end]).toEqual([["restoring"], null]);
  });

  test("one whose bootstrap failed: there is no leader object, and the pod says why", () => {
    expect(factsIn("failed")).toMatchObject({ config: { initialize: null }, leader: null });
    expect(at("failed").end).toMatchObject({ outcome: "restore", error: { name: "PREFLIGHT_FAILED" } });
  });

  test("the same without its report", () => {
    const facts = factsIn("failed");
    const quiet = { ...facts, pod: { ...(facts.pod as PodFacts), report: null, restarts: 0 } };
    const { end } = observe({ ...set, createdAt: NOW }, quiet, NOW, OBSERVE_LIMITS);
    expect(end).toMatchObject({ outcome: "infra" });
    expect(end?.error?.message).toContain("gave its bootstrap up without a report");
  });
});

describe("healthy", () => {
  test("needs the report, the leader and the system identifier together", () => {
    expect(look({ pod: proven, ...led }).end?.outcome).toBe("healthy");
    expect(look({ pod: proven, config: led.config }).end).toBeNull();
    expect(look({ pod: proven, leader: led.leader, config: { initialize: "" } }).end).toBeNull();
    expect(look({ pod: proven, leader: led.leader, config: null }).end).toBeNull();
  });

  test("not with another system identifier, in the report or in Patroni", () => {
    const other = look({ pod: proven, ...led, set: { expected: "7" } });
    expect(other.end).toMatchObject({ outcome: "unhealthy", error: { name: "UNHEALTHY" } });
    const adopted = look({ pod: proven, leader: led.leader, config: { initialize: "7" } });
    expect(adopted.end?.error?.message).toContain("Patroni leads a cluster with system identifier 7");
  });

  test("a leader without a verdict is an error: adopted, made by initdb, or never checked", () => {
    for (const report of [null, reportOf()]) {
      const { end } = look({ pod: { ...POD, report }, ...led });
      expect(end).toMatchObject({ outcome: "infra", error: { name: "UNVERIFIED" } });
      expect(end?.error?.message).toContain("never proven");
    }
  });

  test("stays so when the pod goes afterwards", () => {
    const { end } = look({ pod: null, lastReport: healthyReport(), ...led });
    expect(end?.outcome).toBe("healthy");
  });

  test("a report of a second pod proves nothing", () => {
    const { end } = look({ pod: { ...proven, uid: "pod-2" }, ...led });
    expect(end).toMatchObject({ outcome: "infra" });
    expect(end?.error?.message).toContain("replaced by another");
  });

  test("passed, and then Patroni did not lead", () => {
    const finished = { ...healthyReport(), finished_at: NOW.toISOString() };
    const pod = { ...proven, report: finished };
    const later = (minutes: number) => look({ pod }, new Date(NOW.getTime() + minutes * 60_000)).end;
    expect(later(9)).toBeNull();
    expect(later(11)).toMatchObject({ outcome: "infra" });
    const gaveUp = look({ pod: { ...pod, state: "stopped" }, config: { initialize: null } }).end;
    expect(gaveUp?.error?.message).toContain("every check passed, but Patroni then gave the instance up");
  });
});

describe("an end that the report tells", () => {
  const failed = (code: number, name: string, verdict: "error" | "unhealthy" = "error") => ({
    ...POD,
    report: reportOf({
      verdict,
      finished_at: NOW.toISOString(),
      error: { code, name: name as never, message: "m", hint: null },
    }),
  });

  test.each([
    [12, "RECOVERY_FAILED", "restore"],
    [13, "TARGET_UNREACHED", "restore"],
    [14, "TIMED_OUT", "restore"],
    [20, "UNHEALTHY", "unhealthy"],
    [21, "UNVERIFIED", "infra"],
    [1, "INTERNAL", "infra"],
    [143, "TERMINATED", "infra"],
  ])("%i %s is %s", (code, name, outcome) => {
    expect(look({ pod: failed(code, name) }).end).toMatchObject({ outcome, error: { code, name } });
  });

  test("whatever became of the pod", () => {
    const { report } = failed(12, "RECOVERY_FAILED");
    expect(look({ pod: null, lastReport: report }).end).toMatchObject({ outcome: "restore" });
    expect(look({ pod: { ...failed(12, "RECOVERY_FAILED"), restarts: 3 } }).end).toMatchObject({ outcome: "restore" });
  });

  test("restored and not yet proven is no end", () => {
    const error = { code: 21, name: "UNVERIFIED" as const, message: "restored, not yet proven", hint: null };
    expect(look({ pod: { ...POD, report: reportOf({ error }) } }).end).toBeNull();
  });

  test("ended by a signal after a cancel is cancelled", () => {
    const set = { cancelledAt: NOW.toISOString() };
    expect(look({ pod: failed(143, "TERMINATED"), set }).end?.outcome).toBe("cancelled");
  });
});

describe("an end that it cannot tell", () => {
  test.each<[string, Partial<PodFacts>, string]>([
    [
      "killed",
      { restarts: 1, lastExit: "OOMKilled, exit code 137" },
      "ended before a verdict: OOMKilled, exit code 137",
    ],
    ["evicted", { phase: "Failed", trouble: "Evicted: low on memory" }, "its pod failed: Evicted: low on memory"],
    ["deleted", { isDeleting: true }, "its pod was deleted"],
    ["replaced", { uid: "pod-2" }, "replaced by another"],
  ])("%s", (_, pod, words) => {
    const { end } = look({ pod: { ...POD, ...pod } });
    expect(end).toMatchObject({ outcome: "infra", error: { name: "UNVERIFIED" } });
    expect(end?.error?.message).toContain(words);
  });

  test("gone, but only if it was there", () => {
    expect(look({ pod: null }).end?.error?.message).toBe("its pod is gone");
    expect(look({ pod: null, config: null, set: { podUid: null } }).end).toBeNull();
  });

  test("it never ran: after the limit, with the words of whoever refused it", () => {
    const pod = { ...POD, hasStarted: false, phase: "Pending", state: null, trouble: "Unschedulable: no node" };
    const minutesLater = (minutes: number) =>
      look({ pod, config: null }, new Date(SET.createdAt.getTime() + minutes * 60_000));
    expect(minutesLater(14).end).toBeNull();
    expect(minutesLater(16).end?.error?.message).toBe("its pod did not run within 15min: Unschedulable: no node");
  });

  test("cancelled: with what it was doing, for whoever asks why it hung", () => {
    const pod = {
      ...POD,
      report: reportOf({ phases: [{ name: "restore", started_at: "2026-11-23T10:00:00Z", duration_ms: 0 }] }),
    };
    const { end } = look({ pod, set: { cancelledAt: NOW.toISOString() } });
    expect(end).toMatchObject({ outcome: "cancelled", error: { name: "TERMINATED" } });
    expect(end?.error?.message).toContain('Patroni was "running custom bootstrap script", the last phase was restore');
  });

  test("its StatefulSet is not there", () => {
    expect(withoutSet("t", "s", null).end).toMatchObject({ outcome: "infra" });
  });
});

describe("statuses on the way", () => {
  test("are the report's, with its times", () => {
    expect(look({ pod: proven }).changes).toEqual([
      { status: "restoring", at: new Date("2026-11-23T10:00:01Z") },
      { status: "recovering", at: new Date("2026-11-23T10:00:02Z") },
      { status: "verifying", at: new Date("2026-11-23T10:00:03Z") },
    ]);
  });

  test("without a report Patroni's state says that it restores", () => {
    expect(look({}).changes).toEqual([{ status: "restoring", at: NOW }]);
    expect(look({ pod: { ...POD, state: "running" } }).changes).toEqual([]);
  });
});

describe("what is read of a pod", () => {
  const pod = (status: object, annotations: Record<string, string> = {}) =>
    podFacts({ metadata: { name: "p", uid: "1", annotations }, status });
  const container = (more: object) => ({ containerStatuses: [{ name: "patroni", restartCount: 0, ...more }] });

  test.each<[string, object, Partial<PodFacts>]>([
    ["nothing yet", {}, { phase: "Pending", hasStarted: false, restarts: 0, trouble: null }],
    ["running", { phase: "Running", ...container({ state: { running: {} } }) }, { hasStarted: true, restarts: 0 }],
    [
      "no image",
      container({ state: { waiting: { reason: "ImagePullBackOff", message: "no such image" } } }),
      { hasStarted: false, trouble: "ImagePullBackOff: no such image" },
    ],
    ["still starting", container({ state: { waiting: { reason: "ContainerCreating" } } }), { trouble: null }],
    [
      "no node",
      { conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/3 nodes" }] },
      { trouble: "Unschedulable: 0/3 nodes" },
    ],
    [
      "ended",
      container({ state: { terminated: { exitCode: 0, reason: "Completed" } } }),
      { restarts: 1, lastExit: "exit code 0" },
    ],
    [
      "restarted",
      container({
        restartCount: 2,
        state: { running: {} },
        lastState: { terminated: { exitCode: 137, reason: "OOMKilled" } },
      }),
      { restarts: 2, lastExit: "OOMKilled, exit code 137" },
    ],
  ])("%s", (_, status, expected) => {
    expect(pod(status)).toMatchObject(expected);
  });

  test("annotations that are no JSON, or of another version, say nothing", () => {
    expect(pod({}, { status: "{", "patroni-restore/report": "{" })).toMatchObject({ state: null, report: null });
    expect(pod({}, { "patroni-restore/report": '{"schema_version":9,"phases":[]}' }).report).toBeNull();
  });
});
