#!/usr/bin/env node
/**
 * Patroni's `bootstrap.<method>.command`: restore, recover, promote, detach and stop; Patroni then starts an ordinary
 * standalone primary. Any exit code but 0 makes Patroni give the bootstrap up.
 */
import { start } from "../lib/start.ts";

void start(() => import("../lib/scripts/bootstrap.ts"));
