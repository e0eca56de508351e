#!/usr/bin/env node
/** The scheduler: restore tests of a fleet of services, all the time. */
import { start } from "../lib/start.ts";

void start(() => import("../lib/scripts/fleet.ts"));
