#!/usr/bin/env node
/** The backup sidecar: an HTTP API around pgBackRest, next to the database. */
import { main } from "../lib/cli.ts";
import { script } from "../lib/scripts/backup-api.ts";

await main(script);
