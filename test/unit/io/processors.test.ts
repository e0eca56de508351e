import { availableParallelism } from "node:os";
import { expect, test } from "vitest";
import { cpuDirectories, grantedProcessors, quotaOf } from "../../../lib/io/processors.ts";

// Captured on Linux 6.18 with both hierarchies, as systemd's hybrid mode makes them, but for the cgroup of the process.
const HYBRID = `30 22 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:29 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 30 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 30 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`;
const HYBRID_CGROUP = `4:memory:/tests
2:cpuacct:/
1:cpu:/tests/one
0::/
`;

// As the manual pages show them.
const UNIFIED = "35 24 0:30 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup rw,nsdelegate\n";
const HOST_NAMESPACE = `700 690 0:30 /kubepods/pod1/c1 /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:9 - cgroup cgroup rw,cpu,cpuacct
701 690 0:31 /kubepods/pod1/c1 /sys/fs/cgroup/memory ro,nosuid master:9 - cgroup cgroup rw,memory
`;

test.each([
  [
    "of both versions",
    HYBRID_CGROUP,
    HYBRID,
    ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu/tests", "/sys/fs/cgroup/cpu/tests/one", "/sys/fs/cgroup/unified"],
  ],
  [
    "of a service and those around it",
    "0::/system.slice/patroni.service\n",
    UNIFIED,
    ["/sys/fs/cgroup", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/system.slice/patroni.service"],
  ],
  ["of a container that sees only itself", "0::/\n", UNIFIED, ["/sys/fs/cgroup"]],
  ["outside of what is mounted", "0::/../other\n", UNIFIED, ["/sys/fs/cgroup", "/sys/fs/cgroup/other"]],
  [
    "of a container that knows its place on the host",
    "4:cpu,cpuacct:/kubepods/pod1/c1\n3:memory:/kubepods/pod1/c1\n",
    HOST_NAMESPACE,
    ["/sys/fs/cgroup/cpu,cpuacct"],
  ],
  ["without any", "", "", []],
])("limits of processor time stand in the cgroups %s", (_, cgroup, mountinfo, expected) => {
  expect(cpuDirectories(cgroup, mountinfo)).toEqual(expected);
});

test.each([
  ["150000 100000\n", 1.5],
  ["50000\n 100000\n", 0.5],
  ["max 100000\n", Number.POSITIVE_INFINITY],
  ["-1\n 100000\n", Number.POSITIVE_INFINITY],
  ["undefined undefined", Number.POSITIVE_INFINITY],
])("%j of processor time is that of %d processors", (text, processors) => {
  expect(quotaOf(text)).toBe(processors);
});

test("here there is at least one, and no more than this process may run on", async () => {
  const granted = await grantedProcessors();
  expect(granted).toBeGreaterThanOrEqual(1);
  expect(granted).toBeLessThanOrEqual(availableParallelism());
});
