#!/usr/bin/env node
/** For people: what a restore would do, and everything that would go wrong. Changes nothing. */
import { main } from "../lib/cli.ts";
import { script } from "../lib/scripts/preflight.ts";

await main(script);
