/** S3, with Ceph's gateway. Every file is an object of its own. */

import { startCeph } from "./ceph.ts";
import { testCycle } from "./cycle.ts";

testCycle("Ceph", startCeph);
