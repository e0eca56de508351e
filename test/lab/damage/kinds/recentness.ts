/** The wrong restore: too old, too new, of another service, not a restore at all. */

import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { restore } from "../golden.ts";
import type { Instance } from "../instance.ts";
import { inArea } from "../kind.ts";

/** In place of the copy: a real restore of the same source to something else. */
const restoredInstead =
  (...args: string[]) =>
  async (instance: Instance) => {
    const { lab, golden, datadir } = instance;
    for (const suffix of ["", ".unproven", ".report.json", ".tablespaces", ".recovery.log"]) {
      await rm(datadir + suffix, { recursive: true, force: true });
    }
    await restore(lab, golden.source, datadir, [`--receipt=${golden.receiptFile}`, ...args]);
    await instance.readBeside();
  };

export const recentnessKinds = inArea("recentness", [
  {
    name: "the marker's row lost",
    damage: async (instance) =>
      instance.sql(`DELETE FROM patroni_restore.marker WHERE id = '${instance.receipt.id}'`, "postgres"),
    caughtBy: ["marker-present"],
    level: "quick",
    withoutReceipt: null,
  },
  {
    name: "the fence's row is there",
    damage: async (instance) =>
      instance.sql(`INSERT INTO patroni_restore.fence VALUES ('${instance.receipt.id}', now())`, "postgres"),
    caughtBy: ["fence-absent"],
    level: "quick",
    withoutReceipt: null,
  },
  {
    name: "all markers lost",
    damage: async (instance) => instance.sql("TRUNCATE patroni_restore.marker", "postgres"),
    caughtBy: ["marker-present", "newest-marker"],
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "restored to an older target than the receipt's",
    damage: async (instance) => restoredInstead(`--restore-target-time=${instance.golden.olderTarget}`)(instance),
    caughtBy: ["marker-present", "last-commit"],
    level: "quick",
    withoutReceipt: null,
  },
  {
    name: "restored to the end of the archive, beyond the receipt's target",
    damage: restoredInstead("--target-type=latest"),
    caughtBy: ["fence-absent", "last-commit"],
    level: "quick",
    withoutReceipt: null,
  },
  {
    name: "the receipt of another service",
    damage: async (instance) => {
      instance.receipt = {
        ...instance.receipt,
        id: "20260101T000000Z-0badcafe",
        system_identifier: String(BigInt(instance.receipt.system_identifier) + 1n),
      };
      instance.report = { ...instance.report, receipt_id: instance.receipt.id };
    },
    caughtBy: ["marker-present", "system-identifier"],
    level: "quick",
    withoutReceipt: null,
  },
  {
    name: "a later receipt of the same service",
    damage: async (instance) => {
      instance.receipt = { ...instance.receipt, id: "20991231T235959Z-0badcafe" };
      instance.report = { ...instance.report, receipt_id: instance.receipt.id };
    },
    caughtBy: ["marker-present"],
    level: "quick",
    withoutReceipt: null,
  },
  {
    name: "made by initdb and not from a backup",
    damage: async (instance) => {
      const { lab, datadir } = instance;
      await rm(datadir, { recursive: true });
      await lab.mustRun("initdb", ["-D", datadir, "-U", "postgres", "-k", "-N", "-A", "trust", "--locale=C.UTF-8"]);
    },
    caughtBy: ["guard", "start", "system-identifier"],
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "another timeline than the one that was promoted",
    damage: async (instance) => {
      const { recovered } = instance.report;
      if (recovered === null) throw new Error("the report says nothing of the recovery");
      instance.report = { ...instance.report, recovered: { ...recovered, timeline: recovered.timeline + 5 } };
    },
    caughtBy: ["timeline"],
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "a standby that was never promoted",
    damage: async (instance) => {
      await instance.stop();
      await writeFile(join(instance.datadir, "standby.signal"), "");
      await instance.own(join(instance.datadir, "standby.signal"));
    },
    caughtBy: ["promoted", "recovery-settings", "start"],
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "the last replayed commit is later than the target",
    damage: async (instance) => {
      const { recovered } = instance.report;
      if (recovered === null) throw new Error("the report says nothing of the recovery");
      instance.report = { ...instance.report, recovered: { ...recovered, last_commit_at: "2031-01-01 00:00:00+00" } };
    },
    caughtBy: ["last-commit"],
    level: "quick",
    withoutReceipt: "quick",
  },
]);
