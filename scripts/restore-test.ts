#!/usr/bin/env node
/**
 * The whole of a restore test on one host, for a person or a Job: mark the source, restore and prove its backup in a
 * throwaway Patroni, report, remove. Exit code 0 only when the verdict is healthy.
 *
 * People copy this one file into a pod, so the throwaway Patroni calls it for both hooks too: `restore-test.mjs bootstrap …`
 * and `restore-test.mjs post-bootstrap …` are the scripts of these names.
 */
import { start } from "../lib/start.ts";

switch (process.argv[2]) {
  case "bootstrap":
    process.argv.splice(2, 1);
    void start(() => import("../lib/scripts/bootstrap.ts"));
    break;
  case "post-bootstrap":
    process.argv.splice(2, 1);
    void start(() => import("../lib/scripts/post-bootstrap.ts"));
    break;
  default:
    void start(() => import("../lib/scripts/restore-test.ts"));
}
