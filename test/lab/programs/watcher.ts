/**
 * A bootstrap command that only watches its Patroni and never ends by itself: writes what it sees to the file that its
 * first argument names, one JSON object per line.
 */

import { appendFileSync } from "node:fs";
import { findPatroni, superuserOf, watchPatroni } from "../../../lib/io/patroni.ts";

const say = (what: object) => appendFileSync(process.argv[2] as string, `${JSON.stringify(what)}\n`);

const patroni = await findPatroni();
const forever = setInterval(() => {}, 1000);
watchPatroni(patroni, {
  onGone(reason) {
    say({ gone: reason });
    clearInterval(forever);
    process.exitCode = 1;
  },
});
say({
  pid: patroni?.pid ?? null,
  configFile: patroni?.configFile ?? null,
  superuser: patroni && (await superuserOf(patroni)),
});
