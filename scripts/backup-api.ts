#!/usr/bin/env node
/** The backup sidecar: an HTTP API around pgBackRest, next to the database. */
import { start } from "../lib/start.ts";

void start(() => import("../lib/scripts/backup-api.ts"));
