/** Restore tests as StatefulSets of one: made from a template, watched by their label, judged by what their pod says. */

import { messageOf } from "../../errors.ts";
import type { Kind, Kubernetes, KubernetesObject } from "../../io/kubernetes.ts";
import { KubernetesError, statusOf } from "../../io/kubernetes.ts";
import type { Log } from "../../log.ts";
import type { Report } from "../../report/report.ts";
import type { Observation, Runner } from "../runner.ts";
import {
  type ConfigFacts,
  configFacts,
  type LeaderFacts,
  leaderFacts,
  type PodFacts,
  podFacts,
  type SetFacts,
  setFacts,
  testOf,
} from "./facts.ts";
import { type FollowLimits, follow } from "./follow.ts";
import {
  CANCELLED_ANNOTATION,
  hashOf,
  KEPT_LABEL,
  POD_ANNOTATION,
  SERVICE_ANNOTATION,
  SERVICE_LABEL,
  TEST_LABEL,
} from "./names.ts";
import { renderTest } from "./objects.ts";
import { OBSERVE_LIMITS, type ObserveLimits, observe, withoutSet } from "./observe.ts";
import { explained, listAll, REMOVE_LIMITS, type RemoveLimits, removeAll } from "./remove.ts";

export interface RunnerSettings {
  /** Where restore tests run; null: each in the namespace of its service. */
  testNamespace: string | null;
  /** Where services are; null: everywhere. Tests are looked for there when they have no namespace of their own. */
  namespaces: readonly string[] | null;
  /** Patroni's kubernetes.scope_label. */
  scopeLabel: string;
  /** The template's text; null for the built-in one. */
  template: string | null;
  limits?: Partial<ObserveLimits & RemoveLimits & RunnerLimits>;
  followLimits?: Partial<FollowLimits>;
}

export interface RunnerLimits {
  /** How often time itself is looked at, and ends are told again. */
  tickMs: number;
  /** An object without its StatefulSet may be one that another scheduler is making just now. */
  orphanMs: number;
}

const RUNNER_LIMITS: RunnerLimits = { tickMs: 10_000, orphanMs: 2 * 60_000 };

/** All that there is of one test. `set` can be missing: it is made last, and removed first. */
interface Known {
  namespace: string;
  service: string | null;
  set: SetFacts | null;
  pod: PodFacts | null;
  config: ConfigFacts | null;
  leader: LeaderFacts | null;
  /** Of its first pod, which may be gone. */
  lastReport: Report | null;
  /** Other objects with its label. */
  others: Set<string>;
  /** When this scheduler saw the first of it. */
  seenAt: number;
  isChecking: boolean;
  /** What was told last, to tell it once. */
  told: string;
}

type Part =
  | { of: "set"; facts: SetFacts }
  | { of: "pod"; facts: PodFacts }
  | { of: "config"; facts: ConfigFacts }
  | { of: "leader"; facts: LeaderFacts }
  | { of: "other" };

interface Piece {
  test: string;
  namespace: string;
  service: string | null;
  part: Part;
}

/** Of the ticks. */
const AGAIN_TICKS = 6;
/** No watch is later, and no lost node writes longer: its pods are deleted after five minutes. */
const FORGET_MS = 60 * 60_000;

const FOLLOWED: readonly Kind[] = ["StatefulSet", "Pod", "ConfigMap"];

export function createKubernetesRunner(
  api: Kubernetes,
  settings: RunnerSettings,
  { log, now = () => new Date() }: { log: Log; now?: () => Date },
): Runner {
  const limits = { ...OBSERVE_LIMITS, ...REMOVE_LIMITS, ...RUNNER_LIMITS, ...settings.limits };
  const namespaces = settings.testNamespace === null ? (settings.namespaces ?? [null]) : [settings.testNamespace];
  const known = new Map<string, Known>();
  /** Tests whose objects are being made or removed by us: what is seen of them then means nothing. */
  const busy = new Set<string>();
  /** Late events of what is gone must not bring it back; by the time of its end. */
  const removed = new Map<string, number>();
  /** Removed tests of which something was seen afterwards: a Patroni on a node that was lost writes until it ends. */
  const leftovers = new Set<string>();
  const problems = new Map<string, string>();
  let tell: (observation: Observation) => void = () => {};
  let isComplete = false;

  function knownOf(test: string, namespace: string): Known {
    let entry = known.get(test);
    if (entry === undefined) {
      const nothing = { service: null, set: null, pod: null, config: null, leader: null, lastReport: null };
      entry = { namespace, ...nothing, others: new Set(), seenAt: performance.now(), isChecking: false, told: "" };
      known.set(test, entry);
    }
    return entry;
  }

  function put({ test, namespace, service, part }: Piece, key: string): void {
    if (removed.has(test)) {
      leftovers.add(test);
      return;
    }
    const entry = knownOf(test, namespace);
    entry.service = service ?? entry.service;
    if (part.of === "set") entry.set = part.facts;
    else if (part.of === "pod") {
      entry.pod = part.facts;
      const isFirst = entry.set === null || entry.set.podUid === null || entry.set.podUid === part.facts.uid;
      if (isFirst) entry.lastReport = part.facts.report ?? entry.lastReport;
    } else if (part.of === "config") entry.config = part.facts;
    else if (part.of === "leader") entry.leader = part.facts;
    else entry.others.add(key);
    void look(test);
  }

  function take({ test, part }: Piece, key: string): void {
    const entry = known.get(test);
    if (entry === undefined) return;
    if (part.of !== "other") entry[part.of] = null;
    else entry.others.delete(key);
    const { set, pod, config, leader, others } = entry;
    if (set === null && pod === null && config === null && leader === null && others.size === 0) known.delete(test);
    else void look(test);
  }

  /** Tells how the test stands. An end is told only after everything was asked once more: watches are not in step. */
  async function look(test: string): Promise<void> {
    const entry = known.get(test);
    if (entry === undefined || !isComplete || busy.has(test) || entry.set?.isKept === true) return;
    notePod(entry);
    const observation = observed(test, entry);
    if (observation === null) return;
    if (observation.end === null) say(entry, observation);
    else if (!entry.isChecking && entry.told !== fingerprint(observation)) await confirm(test, entry);
  }

  function observed(test: string, entry: Known): Observation | null {
    if (entry.set !== null) return observe(entry.set, entry, now(), limits);
    if (entry.service === null || performance.now() - entry.seenAt < limits.orphanMs) return null;
    return withoutSet(test, entry.service, entry.lastReport);
  }

  async function confirm(test: string, entry: Known): Promise<void> {
    entry.isChecking = true;
    try {
      const fresh = await ask(test, entry.namespace);
      if (fresh === null || busy.has(test)) return;
      // Noted a moment ago, and perhaps not yet written.
      if (fresh.set !== null) fresh.set.podUid ??= entry.set?.podUid ?? null;
      const observation = observed(test, { ...entry, ...fresh });
      if (observation?.end != null) say(entry, observation);
    } catch (error) {
      log.warn("fleet", `restore test ${test} cannot be looked at: ${messageOf(error)}`);
    } finally {
      entry.isChecking = false;
    }
  }

  function say(entry: Known, observation: Observation): void {
    const text = fingerprint(observation);
    if (entry.told === text) return;
    entry.told = text;
    tell(observation);
  }

  /** All of it as it is now. Null when there is nothing any more. */
  async function ask(
    test: string,
    namespace: string,
  ): Promise<Pick<Known, "set" | "pod" | "config" | "leader"> | null> {
    const found = await listAll(api, namespace, `${TEST_LABEL}=${test}`, FOLLOWED);
    if (found.length === 0) return null;
    const fresh: Pick<Known, "set" | "pod" | "config" | "leader"> = {
      set: null,
      pod: null,
      config: null,
      leader: null,
    };
    for (const { kind, object } of found) {
      const part = pieceOf(kind, object)?.part;
      if (part !== undefined && part.of !== "other") Object.assign(fresh, { [part.of]: part.facts });
    }
    return fresh;
  }

  /** Which pod was the first is written down: the next scheduler must know a second one when it sees it. */
  function notePod({ set, pod, namespace }: Known): void {
    if (set === null || pod === null || set.podUid !== null || pod.uid === "") return;
    set.podUid = pod.uid;
    const body = { metadata: { annotations: { [POD_ANNOTATION]: pod.uid } } };
    api.patch({ kind: "StatefulSet", namespace }, set.name, body).catch((error) => {
      if (statusOf(error) === 404) return;
      set.podUid = null;
      log.warn("fleet", `the pod of restore test ${set.test} cannot be noted: ${messageOf(error)}`);
    });
  }

  /** By what is seen, or else by asking: a scheduler that starts just now may be told to remove one. */
  async function setsOf(selector: string): Promise<SetFacts[]> {
    const found: SetFacts[] = [];
    for (const namespace of namespaces) {
      for (const { object } of await listAll(api, namespace, selector, ["StatefulSet"])) {
        const facts = setFacts(object);
        if (facts !== null) found.push(facts);
      }
    }
    return found;
  }

  const removeTest = async (test: string): Promise<void> => {
    const places = known.has(test) ? [known.get(test)?.namespace ?? null] : namespaces;
    busy.add(test);
    try {
      for (const namespace of places) await removeAll(api, namespace, `${TEST_LABEL}=${test}`, limits);
      removed.set(test, performance.now());
      known.delete(test);
    } finally {
      busy.delete(test);
    }
  };

  async function removeLeftovers(test: string): Promise<void> {
    leftovers.delete(test);
    try {
      await removeTest(test);
    } catch (error) {
      leftovers.add(test);
      log.warn("fleet", `what is left of restore test ${test} cannot be removed: ${messageOf(error)}`);
    }
  }

  return {
    async watch(teller, signal) {
      tell = teller;
      let ticks = 0;
      const timer = setInterval(() => {
        // Told again now and then: whoever heard it may not have been the leader then.
        const isAgain = ++ticks % AGAIN_TICKS === 0;
        for (const [test, entry] of known) {
          if (isAgain) entry.told = "";
          void look(test);
        }
        for (const test of leftovers) void removeLeftovers(test);
        for (const [test, at] of removed) if (performance.now() - at > FORGET_MS) removed.delete(test);
      }, limits.tickMs);
      signal.addEventListener("abort", () => clearInterval(timer));
      if (signal.aborted) clearInterval(timer);
      await Promise.all(
        namespaces.flatMap((namespace) =>
          FOLLOWED.map((kind) =>
            follow<Piece>(
              {
                api,
                place: { kind, namespace },
                selector: TEST_LABEL,
                pick: (object) => pieceOf(kind, object),
                update: (key, piece) => put(piece, `${kind} ${key}`),
                remove: (key, piece) => take(piece, `${kind} ${key}`),
                problem(text) {
                  const place = `${kind} ${namespace}`;
                  if (text === null) problems.delete(place);
                  else problems.set(place, text);
                },
                // A ConfigMap with a receipt may have 1 MiB.
                limits: { pageSize: 20, ...settings.followLimits },
              },
              signal,
            ),
          ),
        ),
      );
      isComplete = true;
      await Promise.all([...known.keys()].map(look));
    },

    async start(test, service, input) {
      const namespace = settings.testNamespace ?? service.namespace;
      const { template, scopeLabel } = settings;
      const objects = renderTest({ ...input, template, test, service, namespace, scopeLabel });
      busy.add(test.id);
      const entry = knownOf(test.id, namespace);
      entry.service = test.service;
      let made = 0;
      try {
        for (const object of objects) {
          await createOnce(api, object, test.id);
          made++;
        }
      } catch (error) {
        if (made === 0) known.delete(test.id);
        throw explained(error, `restore test ${test.id} of ${test.service} cannot be made`);
      } finally {
        busy.delete(test.id);
      }
      void look(test.id);
    },

    async cancel(test) {
      const sets = await setsOf(`${TEST_LABEL}=${test}`).catch((error) => {
        throw explained(error, `restore test ${test} cannot be cancelled`);
      });
      for (const { namespace, name, cancelledAt } of sets) {
        if (cancelledAt !== null) continue;
        const metadata = { annotations: { [CANCELLED_ANNOTATION]: now().toISOString() } };
        try {
          await api.patch({ kind: "StatefulSet", namespace }, name, { metadata, spec: { replicas: 0 } });
        } catch (error) {
          if (statusOf(error) !== 404) throw explained(error, `restore test ${test} cannot be cancelled`);
        }
      }
    },

    async remove(test, { keepInstance }) {
      try {
        const [own] = await setsOf(`${TEST_LABEL}=${test}`);
        const hash = own?.serviceHash ?? hashOf(known.get(test)?.service ?? "");
        for (const kept of await setsOf(`${SERVICE_LABEL}=${hash},${KEPT_LABEL}`)) {
          if (kept.test !== test) await removeTest(kept.test);
        }
        if (keepInstance && own !== undefined) {
          const body = { metadata: { labels: { [KEPT_LABEL]: "true" } } };
          await api.patch({ kind: "StatefulSet", namespace: own.namespace }, own.name, body);
          const entry = known.get(test);
          if (entry !== undefined) entry.set = { ...own, isKept: true };
          return;
        }
        await removeTest(test);
      } catch (error) {
        throw explained(error, `restore test ${test} cannot be removed`);
      }
    },

    present: () => new Set([...known].filter(([, { set }]) => set?.isKept !== true).map(([test]) => test)),

    problem: () => (problems.size === 0 ? null : [...problems.values()].join("; ")),
  };
}

function pieceOf(kind: Kind, object: KubernetesObject): Piece | null {
  const test = testOf(object);
  if (test === null) return null;
  const { namespace = "", name, annotations = {} } = object.metadata;
  const piece = { test, namespace, service: annotations[SERVICE_ANNOTATION] ?? null };
  if (kind === "StatefulSet") {
    const facts = setFacts(object);
    return facts === null ? null : { ...piece, part: { of: "set", facts } };
  }
  if (kind === "Pod") return { ...piece, part: { of: "pod", facts: podFacts(object) } };
  if (name.endsWith(`-rt-${test}-config`)) return { ...piece, part: { of: "config", facts: configFacts(object) } };
  if (name.endsWith(`-rt-${test}-leader`)) return { ...piece, part: { of: "leader", facts: leaderFacts(object) } };
  return { ...piece, part: { of: "other" } };
}

/** What was made before an answer got lost is there already. */
async function createOnce(api: Kubernetes, object: KubernetesObject, test: string): Promise<void> {
  try {
    await api.create(object);
  } catch (error) {
    if (!(error instanceof KubernetesError) || error.reason !== "AlreadyExists") throw error;
    const kind = object.kind as Kind;
    const there = await api.get({ kind, namespace: object.metadata.namespace ?? null }, object.metadata.name);
    if (there === null || testOf(there) !== test) throw error;
  }
}

/** Times of changes that were only guessed do not make news. */
const fingerprint = ({ changes, end }: Observation) =>
  JSON.stringify([changes.map(({ status }) => status), end?.outcome, end?.error?.message]);
