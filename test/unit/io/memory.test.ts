import { expect, test } from "vitest";
import { stillPromised } from "../../../lib/io/memory.ts";

// Lines of /proc/meminfo of a machine with 24 GB and no swap, Linux 6.1.
const meminfo = (committed: number) => `MemTotal:       24684084 kB
SwapTotal:             0 kB
CommitLimit:    12342040 kB
Committed_AS: ${String(committed).padStart(10)} kB
VmallocTotal:   34359738367 kB
`;

test("what the kernel still promises is its limit without what it has promised", () => {
  expect(stillPromised(meminfo(49_840))).toBe((12_342_040 - 49_840) * 1024);
});

test("a kernel that has promised more than its limit promises nothing", () => {
  expect(stillPromised(meminfo(13_000_000))).toBe(0);
});
