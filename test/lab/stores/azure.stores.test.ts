/** Azure's blob storage, with Azurite. Small files are bundled; the S3 cycle stores each one by itself. */

import { startAzurite } from "./azurite.ts";
import { testCycle } from "./cycle.ts";

testCycle("Azurite", startAzurite, { "repo1-bundle": "y" });
