/** How many processors there are for what runs here. */

import { availableParallelism } from "node:os";
import { readTextIfExists } from "./files.ts";

/**
 * Those that this process may run on, or fewer where a cgroup (a pod's limit) grants less of their time: with more at work than
 * that, all of them are stopped for the rest of each period. A part of a processor counts as one.
 */
export async function grantedProcessors(): Promise<number> {
  const read = (path: string) => readTextIfExists(path).catch(() => undefined);
  const directories = cpuDirectories(
    (await read("/proc/self/cgroup")) ?? "",
    (await read("/proc/self/mountinfo")) ?? "",
  );
  const quotas = directories.map(async (directory) =>
    quotaOf(
      (await read(`${directory}/cpu.max`)) ??
        `${await read(`${directory}/cpu.cfs_quota_us`)} ${await read(`${directory}/cpu.cfs_period_us`)}`,
    ),
  );
  return Math.min(availableParallelism(), ...(await Promise.all(quotas)).map(Math.ceil));
}

/**
 * Where the limits of this process's cgroup and of those around it stand, as far as they can be seen from here. In a container
 * the root of a mount is the container's own cgroup. Exported for its test.
 * https://man7.org/linux/man-pages/man7/cgroups.7.html, https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
 */
export function cpuDirectories(cgroup: string, mountinfo: string): string[] {
  const paths = cgroup.split("\n").map((line) => /^\d+:([^:]*):(.*)$/.exec(line));
  return mountinfo.split("\n").flatMap((line) => {
    const [, root = "", point = "", type, options = ""] =
      /^\d+ \d+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)$/.exec(line) ?? [];
    const isV1 = type === "cgroup" && options.split(",").includes("cpu");
    if (!isV1 && type !== "cgroup2") return [];
    const own = paths.find((path) => (isV1 ? path?.[1]?.split(",").includes("cpu") : path?.[1] === ""))?.[2] ?? "/";
    const inside = root !== "/" && `${own}/`.startsWith(`${root}/`) ? own.slice(root.length) : root === "/" ? own : "";
    const parts = inside.split("/").filter((part) => part !== "" && part !== "..");
    return Array.from({ length: parts.length + 1 }, (_, i) => [point, ...parts.slice(0, i)].join("/"));
  });
}

/**
 * Processors, of "quota period" as in cpu.max; -1 and max are no limit. Exported for its test.
 * https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu, https://docs.kernel.org/scheduler/sched-bwc.html
 */
export function quotaOf(text: string): number {
  const [, quota, period] = /^(\d+)\s+(\d+)\s*$/.exec(text.replace(/\s+/g, " ")) ?? [];
  return Number(quota) > 0 && Number(period) > 0 ? Number(quota) / Number(period) : Number.POSITIVE_INFINITY;
}
