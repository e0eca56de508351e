#!/usr/bin/env node
/**
 * Patroni's `post_bootstrap`: proves that what was restored is recent, consistent and harmless, and finishes the report.
 *
 * Patroni appends the superuser's connection string as the last argument. Any exit code but 0 makes it throw the
 * bootstrap away.
 */
import { start } from "../lib/start.ts";

void start(() => import("../lib/scripts/post-bootstrap.ts"));
