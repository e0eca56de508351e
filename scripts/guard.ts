#!/usr/bin/env node
/**
 * Run before Patroni, by an image's entrypoint or systemd's ExecStartPre: a restore that was interrupted before it was
 * proven is refused, wiped or proven. Patroni may start only after exit code 0.
 */
import { main } from "../lib/cli.ts";
import { script } from "../lib/scripts/guard.ts";

await main(script);
