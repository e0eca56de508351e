import { resolve } from "node:path";
import type { Script } from "../cli.ts";
import { BOOTSTRAP_OPTIONS } from "../restore/options.ts";
import { VERSION } from "../version.ts";

const OPTIONS = [...BOOTSTRAP_OPTIONS, "annotatePod", "dryRun", "json"] as const;

export const script: Script<(typeof OPTIONS)[number]> = {
  name: "bootstrap",
  summary: "Restore a pgBackRest backup, recover it to the target, promote and detach it, and hand it to Patroni.",
  description:
    "Patroni's bootstrap.<method>.command: Patroni appends --scope and --datadir (and, since 3.2, every other key of the " +
    "method's section). Any exit code but 0 makes Patroni give the bootstrap up. Afterwards the data directory is either " +
    "absent or complete; post-bootstrap must prove it before it counts as healthy.",
  options: OPTIONS,
  examples: [
    `# in patroni.yml\nbootstrap:\n  method: restore\n  restore:\n    command: /opt/patroni-restore/bootstrap.mjs --stanza=main --receipt=/etc/receipt.json\n  post_bootstrap: /opt/patroni-restore/post-bootstrap.mjs`,
    `# by hand: what would be done\nbootstrap.mjs --scope demo --datadir /var/lib/postgresql/demo/data --stanza main \\\n  --restore-target-time "2026-11-22 10:00:00+00" --dry-run`,
  ],
  async run({ settings, log, signal, print }) {
    const absolute = {
      ...settings,
      ...(settings.receipt === undefined ? {} : { receipt: resolve(settings.receipt) }),
      ...(settings.report === undefined ? {} : { report: resolve(settings.report) }),
    };
    if (settings.dryRun) {
      const { removeTree } = await import("../io/files.ts");
      const { makeTemporaryDirectory } = await import("../io/temporary.ts");
      const { preflight, readRequest } = await import("../restore/preflight.ts");
      const { describePlan } = await import("../restore/plan.ts");
      const workDir = await makeTemporaryDirectory();
      try {
        const { plan } = await preflight(absolute, await readRequest(absolute), { workDir, signal });
        for (const warning of plan.warnings) log.warn("preflight", warning);
        print(settings.json ? JSON.stringify(plan, null, 2) : describePlan(plan));
      } finally {
        await removeTree(workDir);
      }
      return;
    }
    const { withReportOnPod } = await import("../report/on-pod.ts");
    const { bootstrap } = await import("../restore/bootstrap.ts");
    await withReportOnPod(settings.annotatePod, { log, signal }, async (publish) => {
      const report = await bootstrap({ settings: absolute, version: VERSION, log, signal, ...publish });
      if (settings.json) print(JSON.stringify(report, null, 2));
    });
  },
};
