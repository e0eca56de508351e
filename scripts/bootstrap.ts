#!/usr/bin/env node
/**
 * Patroni's `bootstrap.<method>.command`: restore, recover, promote, detach and stop; Patroni then starts an ordinary
 * standalone primary. Any exit code but 0 makes Patroni give the bootstrap up.
 */
import { main } from "../lib/cli.ts";
import { script } from "../lib/scripts/bootstrap.ts";

await main(script);
