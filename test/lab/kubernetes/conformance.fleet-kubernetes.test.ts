/** A real kube-apiserver answers as the fake one of the fast tests does. */

import { openLab } from "../lab.ts";
import { startApiServer } from "./api-server.ts";
import { describeConformance } from "./conformance.ts";

describeConformance("kube-apiserver", async () => {
  const lab = await openLab("k8s");
  try {
    const server = await startApiServer(lab);
    return {
      ...server,
      async close() {
        await server.close();
        await lab.close();
      },
    };
  } catch (error) {
    await lab.close();
    throw error;
  }
});
