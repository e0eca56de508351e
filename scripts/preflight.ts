#!/usr/bin/env node
/** For people: what a restore would do, and everything that would go wrong. Changes nothing. */
import { start } from "../lib/start.ts";

void start(() => import("../lib/scripts/preflight.ts"));
