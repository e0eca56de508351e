#!/usr/bin/env node
/** For people, jobs and restore tests: places the marker on the source and writes the receipt. */
import { start } from "../lib/start.ts";

void start(() => import("../lib/scripts/mark.ts"));
