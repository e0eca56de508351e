/** The fleet's watch and runner on a small API server of our own; a real one must answer the same (fleet-kubernetes). */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeConformance } from "../lab/kubernetes/conformance.ts";
import { startFakeKubernetes } from "../lab/kubernetes/fake.ts";
import { writeKubeconfig } from "../lab/kubernetes/kubeconfig.ts";

describeConformance("the fake API server", async () => {
  const directory = await mkdtemp(join(tmpdir(), "fleet-kubernetes-"));
  const fake = await startFakeKubernetes();
  return {
    kubeconfig: await writeKubeconfig(directory, fake.url),
    compact: async () => fake.compact(),
    dropWatches: async () => fake.dropWatches(),
    async restart(while_) {
      await fake.pause();
      await while_();
      await fake.resume();
    },
    async close() {
      await fake.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});
