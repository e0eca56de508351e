/**
 * The fleet in memory: every service with what is known of it, the tests in progress, and those that are due in the order
 * of their urgency. An update costs a look at one service, however many there are.
 */

import { OrderedMap } from "@js-sdsl/ordered-map";
import {
  type Candidate,
  choose,
  compareUrgency,
  type Decision,
  decide,
  type Limits,
  type Load,
  loadOf,
  obstacle,
  tally,
} from "./decide.ts";
import { newStanding, type Service, type Standing } from "./service.ts";
import type { RunningTest } from "./store.ts";
import type { Status } from "./test.ts";
import type { ServiceView } from "./view.ts";

interface Entry extends Candidate {
  /** It is among `due`. */
  isDue: boolean;
  /** Nothing changes by itself before then, in milliseconds. */
  notBefore: number;
  /** The record knows it. */
  isKnown: boolean;
}

export interface Counters {
  updates: number;
  /** Decisions that were made, by what they were; updates before a time that was known need none. */
  due: number;
  notDue: number;
}

export interface Fleet {
  /** What the watch says of a service. */
  update(service: Service, now: Date): void;
  remove(id: string): void;
  /** What the record says of it. */
  setStanding(id: string, standing: Standing, now: Date): void;
  /** The tests that have a slot, as the record says. */
  setRunning(tests: readonly RunningTest[], now: Date): void;
  /** A test has begun or reached a status here, before the record says so. */
  note(test: RunningTest): void;
  /** Looks at some services again that nobody updated; all of them within `rounds` calls. */
  sweep(now: Date, rounds: number): void;
  /** Those whose test may start now. */
  choose(now: Date): Candidate[];
  /** Services that the record has not seen. */
  unknown(): Service[];
  /** Services of the record that the watch does not know, until `forget`. */
  missing(): string[];
  forget(ids: readonly string[]): void;
  /** Services whose `wanted` was not taken up yet. */
  wanted(): Service[];
  get(id: string): ServiceView | null;
  /** In the order of their names. */
  views(now: Date): ServiceView[];
  running(): readonly RunningTest[];
  size(): number;
  dueCount(): number;
  counters(): Counters;
}

/** `limits` are asked for each time: the fleet can be paused while it works. */
export function createFleet(limits: () => Limits): Fleet {
  const entries = new Map<string, Entry>();
  const standings = new Map<string, Standing>();
  const due = new OrderedMap<Entry, true>([], compareUrgency);
  const running = new Map<string, RunningTest>();
  const unknown = new Set<string>();
  const wanted = new Set<string>();
  const counters: Counters = { updates: 0, due: 0, notDue: 0 };
  /** A light one may not overtake it. */
  let heavy: Candidate | null = null;
  let mayChoose = true;
  let sweeping: IterableIterator<Entry> | null = null;

  const setDue = (entry: Entry, isDue: boolean) => {
    if (entry.isDue === isDue) return;
    entry.isDue = isDue;
    if (isDue) due.setElement(entry, true);
    else due.eraseElementByKey(entry);
    mayChoose = true;
  };

  const look = (entry: Entry, now: Date) => {
    if (now.getTime() < entry.notBefore) return;
    const decision = decide(entry, now);
    if (decision.due) counters.due++;
    else counters.notDue++;
    entry.notBefore = decision.due || decision.at === null ? 0 : decision.at.getTime();
    setDue(entry, decision.due && entry.isKnown && !running.has(entry.service.id));
  };

  /** The order depends on it, so it leaves its place first. */
  const change = (entry: Entry, to: Partial<Entry>, now: Date) => {
    setDue(entry, false);
    Object.assign(entry, to, { notBefore: 0 });
    const { service, standing, isKnown } = entry;
    const { id } = service;
    if (isKnown) unknown.delete(id);
    else unknown.add(id);
    if (isKnown && service.wanted !== null && service.wanted !== standing.wantedToken) wanted.add(id);
    else wanted.delete(id);
    look(entry, now);
  };

  const loads = () => [...running.values()] as Iterable<Load>;

  /** Why a service that is due does not start. */
  const waitsFor = ({ service }: Candidate): string | null => {
    const reason = obstacle(loadOf(service), tally(loads()), limits());
    if (reason !== null) return reason;
    if (heavy === null || heavy.service.id === service.id) return null;
    return `${heavy.service.id} comes first, and waits for others to end`;
  };

  const decisionOf = (entry: Entry, now: Date): Decision => {
    const test = running.get(entry.service.id);
    if (test !== undefined) return { due: false, reason: "its test is in progress", at: null };
    if (!entry.isKnown) return { due: false, reason: "the record does not know it yet", at: null };
    const decision = decide(entry, now);
    const waiting = decision.due ? waitsFor(entry) : null;
    return waiting === null ? decision : { ...decision, reason: `${decision.reason}; waits: ${waiting}` };
  };

  const viewOf = (entry: Entry, now: Date): ServiceView => {
    const test = running.get(entry.service.id);
    return {
      service: entry.service,
      standing: entry.standing,
      decision: decisionOf(entry, now),
      running: test === undefined ? null : { test: test.id, status: statusOf(test), since: test.statusAt },
    };
  };

  return {
    update(service, now) {
      counters.updates++;
      const entry = entries.get(service.id);
      if (entry !== undefined && entry.service === service) return look(entry, now);
      if (entry !== undefined) return change(entry, { service }, now);
      const known = standings.get(service.id);
      const added = {
        service,
        standing: known ?? newStanding(now),
        isDue: false,
        notBefore: 0,
        isKnown: known !== undefined,
      };
      entries.set(service.id, added);
      change(added, {}, now);
    },
    remove(id) {
      const entry = entries.get(id);
      if (entry !== undefined) setDue(entry, false);
      entries.delete(id);
      unknown.delete(id);
      wanted.delete(id);
    },
    setStanding(id, standing, now) {
      standings.set(id, standing);
      const entry = entries.get(id);
      if (entry !== undefined) change(entry, { standing, isKnown: true }, now);
    },
    setRunning(tests, now) {
      const before = new Set(running.keys());
      running.clear();
      for (const test of tests) running.set(test.service, test);
      const differ = [...new Set([...before, ...running.keys()])].filter((id) => before.has(id) !== running.has(id));
      if (differ.length > 0) mayChoose = true;
      for (const id of differ) {
        const entry = entries.get(id);
        if (entry !== undefined) change(entry, {}, now);
      }
    },
    note(test) {
      running.set(test.service, test);
      const entry = entries.get(test.service);
      if (entry !== undefined) setDue(entry, false);
    },
    sweep(now, rounds) {
      const count = Math.ceil(entries.size / rounds);
      for (let n = 0; n < count; n++) {
        sweeping ??= entries.values();
        let next = sweeping.next();
        if (next.done) {
          sweeping = entries.values();
          next = sweeping.next();
        }
        if (!next.done) look(next.value, now);
      }
    },
    choose(now) {
      const current = limits();
      if (current.isPaused || running.size >= current.tests || due.empty() || !mayChoose) return [];
      // Windows close while others are waited for.
      const first = [...takeWhileNeeded(inOrder(due), current.tests)];
      for (const entry of first) look(entry, now);
      const choice = choose(inOrder(due), loads(), current);
      heavy = choice.heavy;
      mayChoose = choice.start.length > 0;
      return choice.start.filter((candidate) => decide(candidate, now).due);
    },
    unknown: () => [...unknown].map((id) => (entries.get(id) as Entry).service),
    missing: () => [...standings.keys()].filter((id) => !entries.has(id)),
    forget(ids) {
      for (const id of ids) if (!entries.has(id)) standings.delete(id);
    },
    wanted: () => [...wanted].map((id) => (entries.get(id) as Entry).service),
    get(id) {
      const entry = entries.get(id);
      return entry === undefined ? null : viewOf(entry, new Date());
    },
    views: (now) =>
      [...entries.values()].map((entry) => viewOf(entry, now)).sort((a, b) => (a.service.id < b.service.id ? -1 : 1)),
    running: () => [...running.values()],
    size: () => entries.size,
    dueCount: () => due.size(),
    counters: () => ({ ...counters }),
  };
}

function* inOrder(due: OrderedMap<Entry, true>): Iterable<Entry> {
  for (const [entry] of due) yield entry;
}

const statusOf = ({ statuses }: RunningTest): Status => statuses.at(-1) ?? "requested";

function* takeWhileNeeded<T>(items: Iterable<T>, count: number): Iterable<T> {
  let left = count;
  for (const item of items) {
    if (left-- <= 0) return;
    yield item;
  }
}
