/** Servers that a test has killed with SIGKILL leave their shared memory behind, and nobody starts them again to free it. */

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";

const POSIX = "/dev/shm";

export interface SharedMemory {
  posix: ReadonlySet<string>;
  /** Segment numbers of System V. */
  systemV: ReadonlySet<string>;
}

export function sharedMemory(): SharedMemory {
  const rows = execFileSync("ipcs", ["-m"], { encoding: "utf8" })
    .split("\n")
    .map((row) => row.split(/\s+/));
  return {
    posix: new Set(readdirSync(POSIX).filter((name) => name.startsWith("PostgreSQL."))),
    // key, shmid, owner, perms, bytes, nattch
    systemV: new Set(
      rows.filter(([, , owner, , , attached]) => owner === "postgres" && attached === "0").map(([, id = ""]) => id),
    ),
  };
}

/** Frees what has come since and nobody uses any more. */
export function freeSharedMemory(since: SharedMemory): void {
  const now = sharedMemory();
  const maps = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/maps`, "utf8");
      } catch {
        return "";
      }
    });
  for (const name of now.posix) {
    const path = `${POSIX}/${name}`;
    if (!since.posix.has(name) && !maps.some((text) => text.includes(path))) rmSync(path, { force: true });
  }
  for (const id of now.systemV) {
    if (!since.systemV.has(id)) execFileSync("ipcrm", ["-m", id], { stdio: "ignore" });
  }
}
