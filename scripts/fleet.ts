#!/usr/bin/env node
/** The scheduler: restore tests of a fleet of services, all the time. */
import { main } from "../lib/cli.ts";
import { script } from "../lib/scripts/fleet.ts";

await main(script);
