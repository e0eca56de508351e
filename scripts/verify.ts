#!/usr/bin/env node
/** The checks of `post-bootstrap` by hand, against any running instance. Exit code 0 only when the verdict is healthy. */
import { start } from "../lib/start.ts";

void start(() => import("../lib/scripts/verify.ts"));
