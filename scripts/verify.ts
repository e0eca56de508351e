#!/usr/bin/env node
/** The checks of `post-bootstrap` by hand, against any running instance. Exit code 0 only when the verdict is healthy. */
import { main } from "../lib/cli.ts";
import { script } from "../lib/scripts/verify.ts";

await main(script);
