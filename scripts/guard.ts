#!/usr/bin/env node
/**
 * Run before Patroni, by an image's entrypoint or systemd's ExecStartPre: a restore that was interrupted before it was
 * proven is refused, wiped or proven. Patroni may start only after exit code 0.
 */
import { start } from "../lib/start.ts";

void start(() => import("../lib/scripts/guard.ts"));
