import type { Script } from "../cli.ts";
import { RestoreError } from "../errors.ts";
import { refuseSecretFlag } from "../settings.ts";
import { VERIFY_OPTIONS } from "../verify/options.ts";

export const script: Script<(typeof VERIFY_OPTIONS)[number]> = {
  name: "verify",
  summary: "Run the checks of post-bootstrap against any running instance, and print what they found.",
  description:
    "Changes nothing. With --receipt the instance must be the restore of that very mark; without one the newest marker " +
    "says how recent it is. What only bootstrap can know (target, last replayed commit) is read from the report beside " +
    "the data directory, when there is one. Exit code 0 means the verdict is healthy.",
  options: VERIFY_OPTIONS,
  operands: "CONNINFO",
  examples: [
    "# in a pod, against its own instance\nverify.mjs --conninfo 'host=/run/postgresql user=postgres' --receipt /tmp/receipt.json",
    "# for machines; PGPASSFILE or PGPASSWORD holds the password\nverify.mjs --conninfo postgresql://postgres@db/postgres --json",
  ],
  async run({ settings, flags, operands, log, signal, print }) {
    refuseSecretFlag(flags, "conninfo");
    const { describeReport } = await import("../report/report-text.ts");
    const { verdictError } = await import("../verify/verify.ts");
    const { verifyByHand } = await import("../verify/verify-by-hand.ts");
    const report = await verifyByHand({ settings, operands, log, signal });
    const error = verdictError(report);
    print(
      settings.json
        ? JSON.stringify(report, null, 2)
        : describeReport(report, { color: process.stdout.isTTY === true && process.env.NO_COLOR === undefined }),
    );
    // The table has said it all; a log collector reads one line.
    if (error !== null) throw settings.json ? error : new RestoreError(error.code, summaryOf(error));
  },
};

const summaryOf = (error: RestoreError) => error.message.split("\n")[0] ?? error.message;
