import type { Script } from "../cli.ts";
import { RestoreError } from "../errors.ts";
import { findPatroni, watchPatroni } from "../io/patroni.ts";
import { POST_BOOTSTRAP_OPTIONS } from "../verify/options.ts";

const OPTIONS = [...POST_BOOTSTRAP_OPTIONS, "annotatePod"] as const;

export const script: Script<(typeof OPTIONS)[number]> = {
  name: "post-bootstrap",
  summary: "Prove the instance that bootstrap restored; only then does it exit 0.",
  description:
    "Patroni's bootstrap.post_bootstrap: Patroni appends the superuser's connection string. Reads what bootstrap left beside " +
    "the data directory, runs the checks and writes the verdict into the report. Any exit code but 0 makes Patroni give " +
    "the bootstrap up.",
  options: OPTIONS,
  operands: "CONNINFO",
  examples: [
    "# in patroni.yml\nbootstrap:\n  post_bootstrap: /opt/patroni-restore/post-bootstrap.mjs",
    "# once more by hand, after an interruption\npost-bootstrap.mjs 'host=/run/postgresql dbname=postgres user=postgres'",
  ],
  async run({ settings, flags, operands, log, signal }) {
    const { withReportOnPod } = await import("../report/on-pod.ts");
    const { parseOperand, postBootstrap } = await import("../verify/post-bootstrap.ts");
    const conninfo = parseOperand(operands);
    const gone = new AbortController();
    const watch = watchPatroni(await findPatroni(), {
      onGone: (reason) =>
        gone.abort(
          new RestoreError("TERMINATED", `Patroni is gone (${reason}); nobody would take the instance over`, {
            hint: "start Patroni again behind guard",
          }),
        ),
    });
    try {
      const either = AbortSignal.any([signal, gone.signal]);
      await withReportOnPod(settings.annotatePod, { log, signal: either }, async (publish) => {
        await postBootstrap({ conninfo, settings, flags, log, signal: either, ...publish });
      });
    } finally {
      watch.stop();
    }
  },
};
