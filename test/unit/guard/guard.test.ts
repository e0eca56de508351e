import { describe, expect, test } from "vitest";
import { decide, type GuardFacts, type OnUnproven } from "../../../lib/guard/guard.ts";
import { pathsOf, type Unproven } from "../../../lib/restore/state.ts";

const DATADIR = "/pg/demo/data";
const paths = pathsOf(DATADIR);

const unproven = (changes: Partial<Unproven> = {}): GuardFacts["unproven"] => ({
  state: {
    schema_version: 1,
    id: "20261122T100000Z-7",
    scope: "demo",
    stanza: "main",
    started_at: "2026-11-22T10:00:00.000Z",
    phase: "verify",
    pid: 4242,
    pid_started: "1000",
    attempts: 2,
    request: "stanza main",
    receipt: null,
    report: `${DATADIR}.report.json`,
    detach: "restore-test",
    linked: ["/pg/demo/data.tablespaces/fast"],
    ...changes,
  },
});
const corrupt: GuardFacts["unproven"] = {
  state: null,
  reason: `${paths.unproven} cannot be read: Unexpected end of JSON input`,
};

const facts = (changes: Partial<GuardFacts> = {}): GuardFacts => ({
  paths,
  unproven: unproven(),
  bootstrapAlive: false,
  patroni: null,
  datadir: "present",
  restoringExists: false,
  walAheadExists: false,
  postmaster: null,
  restoringPostmaster: null,
  systemIdentifier: { found: "7000000000000000001", restored: "7000000000000000001" },
  ...changes,
});

const MODES: OnUnproven[] = ["refuse", "wipe", "prove"];
const DATADIRS: GuardFacts["datadir"][] = ["absent", "empty", "present", "link"];

/** Every combination of what can be seen; the rules below must hold for each of them. */
const everything = MODES.flatMap((mode) =>
  [undefined, unproven(), unproven({ phase: "recovery" }), unproven({ phase: "wiped" }), corrupt].flatMap((file) =>
    DATADIRS.flatMap((datadir) =>
      [false, true].flatMap((restoringExists) =>
        [null, 11].flatMap((postmaster) =>
          [null, 12].flatMap((restoringPostmaster) =>
            [null, 13].flatMap((patroni) =>
              [false, true].flatMap((bootstrapAlive) =>
                ["7000000000000000001", "7000000000000000002", null].map((found) => ({
                  mode,
                  facts: facts({
                    unproven: file,
                    datadir,
                    restoringExists,
                    postmaster,
                    restoringPostmaster,
                    patroni,
                    bootstrapAlive,
                    systemIdentifier: { found, restored: "7000000000000000001" },
                  }),
                })),
              ),
            ),
          ),
        ),
      ),
    ),
  ),
);

describe("in every combination", () => {
  const decided = everything.map((one) => ({ ...one, decision: decide(one.facts, one.mode) }));

  test("Patroni may start at once only without an unproven file", () => {
    for (const { facts, decision } of decided) {
      expect(decision.action === "proceed").toBe(facts.unproven === undefined);
    }
  });

  test("a data directory that is there is never left for Patroni without being wiped or proven", () => {
    for (const { facts, mode, decision } of decided) {
      if (facts.unproven === undefined || facts.datadir === "absent" || facts.datadir === "empty") continue;
      expect(["refuse", mode]).toContain(decision.action);
    }
  });

  test("mode refuse removes no data directory and stops no server of it", () => {
    for (const { mode, decision } of decided) {
      if (mode !== "refuse") continue;
      expect(decision.remove).not.toContain(DATADIR);
      expect(decision.stop).not.toContain(DATADIR);
    }
  });

  test("a data directory is removed only when everything says that it is this restore's", () => {
    for (const { facts, mode, decision } of decided) {
      if (!decision.remove.includes(DATADIR)) continue;
      expect(mode).toBe("wipe");
      expect(facts.unproven?.state?.phase).toBe("verify");
      expect(facts.systemIdentifier.found).not.toBe("7000000000000000002");
      expect(facts.datadir).toBe("present");
    }
  });

  test("nothing is touched while its bootstrap or a Patroni is alive", () => {
    for (const { facts, decision } of decided) {
      const isBusy = facts.patroni !== null || (facts.bootstrapAlive && facts.unproven?.state != null);
      if (facts.unproven === undefined || !isBusy) continue;
      expect(decision).toMatchObject({ action: "refuse", code: "PREFLIGHT_FAILED", stop: [], remove: [] });
    }
  });

  test("a directory is never removed under a live server", () => {
    for (const { facts, decision } of decided) {
      if (facts.postmaster !== null && decision.remove.includes(DATADIR)) expect(decision.stop).toContain(DATADIR);
      if (facts.restoringPostmaster !== null && decision.remove.includes(paths.restoring)) {
        expect(decision.stop).toContain(paths.restoring);
      }
    }
  });

  test("a refusal has a code and says what to do", () => {
    for (const { decision } of decided) {
      expect(decision.code !== null && decision.hint !== null).toBe(decision.action === "refuse");
    }
  });
});

describe("an unproven restore in place", () => {
  test("is refused with the three ways out", () => {
    const decision = decide(facts(), "refuse");
    expect(decision).toMatchObject({ action: "refuse", code: "UNVERIFIED" });
    expect(decision.reason).toBe(
      "/pg/demo/data holds a restore that was interrupted before it was proven (phase verify, started " +
        "2026-11-22T10:00:00.000Z, attempt 2); Patroni would promote it without running post_bootstrap",
    );
    expect(decision.hint).toBe(
      "prove it with --on-unproven prove, throw it away with --on-unproven wipe, or remove /pg/demo/data.unproven if you know that it is good",
    );
  });

  test("is wiped with its server stopped, its remains and its tablespaces, and the DCS's keys are named", () => {
    const decision = decide(facts({ postmaster: 11, restoringExists: true }), "wipe");
    expect(decision).toMatchObject({
      action: "wipe",
      stop: [DATADIR],
      remove: [paths.restoring, DATADIR, "/pg/demo/data.tablespaces/fast"],
    });
    expect(decision.notes.join()).toContain("patronictl remove demo");
    expect(decision.notes.join()).toContain("/service/demo/");
    expect(decision.notes.join()).toContain("demo-config");
  });

  test("is proven after a server that was left running is stopped", () => {
    expect(decide(facts({ postmaster: 11 }), "prove")).toMatchObject({ action: "prove", stop: [DATADIR], remove: [] });
  });

  test.each([
    { what: "its parent", path: "/pg/demo" },
    { what: "the root", path: "/" },
    { what: "itself", path: DATADIR },
    { what: "a top-level directory", path: "/srv" },
    { what: "a relative path", path: "tablespaces/fast" },
    { what: "a path with ..", path: "/pg/demo/ts/../../other" },
  ])("with $what among its linked directories leaves that one alone", ({ path }) => {
    const decision = decide(facts({ unproven: unproven({ linked: [path, "/ts/fast"] }) }), "wipe");
    expect(decision.remove).toEqual([DATADIR, "/ts/fast"]);
    expect(decision.notes.join()).toContain(`${path} belongs to the restore too`);
  });
});

describe("what cannot be told", () => {
  test.each(MODES)("a corrupt file beside a data directory is refused with %s", (mode) => {
    const decision = decide(facts({ unproven: corrupt }), mode);
    expect(decision).toMatchObject({ action: "refuse", code: "UNVERIFIED" });
    expect(decision.reason).toContain("Unexpected end of JSON input");
  });

  test.each(MODES)(
    "a data directory that was made while nothing of the restore was in place is refused with %s",
    (mode) => {
      const decision = decide(facts({ unproven: unproven({ phase: "recovery" }) }), mode);
      expect(decision).toMatchObject({ action: "refuse", code: "UNVERIFIED" });
      expect(decision.reason).toContain("the restore got no further than recovery");
    },
  );

  test.each(MODES)("a data directory with another system identifier is refused with %s", (mode) => {
    const decision = decide(facts({ systemIdentifier: { found: "1", restored: "2" } }), mode);
    expect(decision).toMatchObject({ action: "refuse", code: "UNVERIFIED" });
    expect(decision.reason).toContain("its system identifier is 1 and the restore's is 2");
  });

  test("a corrupt file and a server on the directory of the restore: somebody may be at it", () => {
    const decision = decide(facts({ unproven: corrupt, datadir: "absent", restoringPostmaster: 12 }), "wipe");
    expect(decision).toMatchObject({ action: "refuse", code: "PREFLIGHT_FAILED" });
  });
});

describe("nothing to adopt", () => {
  test.each(["absent", "empty"] as const)(
    "a data directory that is %s lets Patroni start once the remains are gone",
    (datadir) => {
      const decision = decide(facts({ datadir, restoringExists: true, restoringPostmaster: 12 }), "refuse");
      expect(decision).toMatchObject({
        action: "clean-up",
        stop: [paths.restoring],
        remove: [paths.restoring, "/pg/demo/data.tablespaces/fast"],
      });
      expect(decision.notes.join()).toContain("patronictl remove demo");
    },
  );

  test("tablespaces stay when the directory that they belonged to was moved away by somebody", () => {
    expect(decide(facts({ datadir: "absent" }), "wipe").remove).toEqual([]);
  });
});
