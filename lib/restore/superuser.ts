/** Which role to work as in the restored cluster, and whether Patroni will be able to log in. */

import { RestoreError } from "../errors.ts";
import { type Database, type OpenDatabase, openDatabase } from "../io/database.ts";
import type { Conninfo } from "../postgres/conninfo.ts";

/** A session of the first candidate that is a superuser. `wanted` is Patroni's own, without which it would wait for ever. */
export async function openAsSuperuser(
  conninfo: Conninfo,
  candidates: readonly string[],
  wanted: string | undefined,
): Promise<{ db: OpenDatabase; user: string }> {
  let failure: unknown;
  for (const user of candidates) {
    let db: OpenDatabase | undefined;
    try {
      db = await openDatabase({ ...conninfo, user }, { statementTimeoutMs: 60_000 });
      if (await isSuperuser(db, user, wanted)) return { db, user };
    } catch (error) {
      failure = error;
    }
    await db?.close();
    if (failure instanceof RestoreError) throw failure;
  }
  throw new RestoreError("DETACH_FAILED", `none of ${candidates.join(", ")} is a superuser of the restored cluster`, {
    hint: "give --superuser",
    cause: failure,
  });
}

async function isSuperuser(db: Database, user: string, wanted: string | undefined): Promise<boolean> {
  const roles = await db.query<{ rolname: string }>(
    "SELECT rolname FROM pg_roles WHERE rolsuper AND rolcanlogin ORDER BY oid",
  );
  const superusers = roles.map(({ rolname }) => rolname);
  if (wanted !== undefined && !superusers.includes(wanted)) {
    throw new RestoreError(
      "PREFLIGHT_FAILED",
      `superuser "${wanted}" does not exist in the restored cluster; it has ${superusers.join(", ")}`,
      { hint: "Patroni could never log in: set postgresql.authentication.superuser.username to one of these" },
    );
  }
  return superusers.includes(user);
}
