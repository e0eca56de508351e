/** Nothing connects to the source or waits for anybody: subscriptions, slots, synchronous standbys. */

import { type Check, EVERY_LEVEL, enumerate, plural } from "../check.ts";

export interface Subscription {
  database: string;
  name: string;
  enabled: boolean;
  slot: string | null;
  /** Process of its worker, while one runs. */
  pid: string | null;
}

/** A live subscription of the restore takes rows from the source's publisher that its real subscriber never gets. */
export const subscriptions: Check<{ subscriptions: Subscription[] }> = {
  id: "subscriptions",
  claim: "safety",
  levels: EVERY_LEVEL,
  async collect(edge) {
    const rows = await edge.sql(null, (database) =>
      database.query<Record<"database" | "name" | "enabled", string> & Pick<Subscription, "slot" | "pid">>(
        `SELECT d.datname AS database, s.subname AS name, s.subenabled::text AS enabled, s.subslotname AS slot,
                (SELECT min(pid)::text FROM pg_stat_subscription w WHERE w.subid = s.oid) AS pid
           FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid ORDER BY 1, 2`,
      ),
    );
    return { subscriptions: rows.map((row) => ({ ...row, enabled: row.enabled === "true" })) };
  },
  judge({ subscriptions }) {
    const live = subscriptions.filter((s) => s.enabled || s.slot !== null || s.pid !== null);
    if (live.length > 0) {
      const described = live.map(
        (s) =>
          `${s.database}.${s.name} (${[s.enabled ? "enabled" : "disabled", s.slot === null ? null : `slot ${s.slot}`, s.pid === null ? null : `worker ${s.pid}`].filter((x) => x !== null).join(", ")})`,
      );
      return {
        status: "fail",
        summary: `${plural(live.length, "subscription")} can take rows from the real publisher: ${enumerate(described)}`,
        hint: "ALTER SUBSCRIPTION … DISABLE, then SET (slot_name = NONE); never DROP it before, that drops the publisher's slot",
      };
    }
    return {
      status: "pass",
      summary:
        subscriptions.length === 0
          ? "there is no subscription"
          : `${plural(subscriptions.length, "subscription")}, disabled and off ${subscriptions.length === 1 ? "its slot" : "their slots"}`,
    };
  },
};

export interface Slot {
  name: string;
  type: string;
  active: boolean;
}

export const slots: Check<{ slots: Slot[] }> = {
  id: "slots",
  claim: "safety",
  levels: EVERY_LEVEL,
  async collect(edge) {
    const rows = await edge.sql(null, (database) =>
      database.query<Record<"name" | "type" | "active", string>>(
        `SELECT slot_name AS name, slot_type AS type, active::text AS active
           FROM pg_replication_slots WHERE NOT temporary ORDER BY 1`,
      ),
    );
    return { slots: rows.map((row) => ({ ...row, active: row.active === "true" })) };
  },
  judge({ slots }, { detach }) {
    if (slots.length === 0) return { status: "pass", summary: "there is no replication slot" };
    const described = (list: Slot[]) =>
      enumerate(list.map((s) => `${s.name} (${s.type}, ${s.active ? "active" : "inactive"})`));
    // Patroni makes physical slots itself, for its members and its permanent slots; it never makes logical ones here.
    const wrong = slots.filter((s) => s.type !== "physical" || (s.active && detach === "restore-test"));
    if (wrong.length > 0) {
      return {
        status: "fail",
        summary: `${plural(wrong.length, "replication slot")} of the source's or somebody's: ${described(wrong)}`,
        hint: "somebody reads from the instance, or WAL piles up for nobody: pg_drop_replication_slot",
      };
    }
    return {
      status: "warn",
      summary: `${plural(slots.length, "physical replication slot")}: ${described(slots)}`,
      hint: "Patroni makes its own for members and permanent slots; any other keeps WAL for nobody",
    };
  },
};

/** A commit would wait for a standby that the restore does not have. */
export const synchronousStandbyNames: Check<{ synchronous_standby_names: string }> = {
  id: "synchronous-standby-names",
  claim: "safety",
  levels: EVERY_LEVEL,
  collect: (edge) =>
    edge.sql(null, (database) =>
      database.row(
        "SELECT setting AS synchronous_standby_names FROM pg_settings WHERE name = 'synchronous_standby_names'",
      ),
    ),
  judge({ synchronous_standby_names }) {
    if (synchronous_standby_names.trim() !== "") {
      return {
        status: "fail",
        summary: `synchronous_standby_names is "${synchronous_standby_names}": commits would wait for ever`,
        hint: "it comes from the source's settings: ALTER SYSTEM RESET synchronous_standby_names",
      };
    }
    return { status: "pass", summary: "synchronous_standby_names is empty" };
  },
};
