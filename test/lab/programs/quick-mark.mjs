/** Stands where mark stands, and takes a moment: for tests of the scheduler alone. */
import { readFileSync, writeFileSync } from "node:fs";

const config = readFileSync(process.argv[2].slice("--config=".length), "utf8");
const receipt = /^receipt: (.*)$/m.exec(config)[1];
setTimeout(() => writeFileSync(receipt, "{}\n"), 50 + Math.random() * 300);
