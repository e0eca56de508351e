#!/usr/bin/env node
/** For people, jobs and restore tests: places the marker on the source and writes the receipt. */
import { main } from "../lib/cli.ts";
import { script } from "../lib/scripts/mark.ts";

await main(script);
