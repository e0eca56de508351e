import { resolve } from "node:path";
import type { Script } from "../cli.ts";
import { type GuardDecision, guard } from "../guard/guard.ts";
import type { Unproven } from "../restore/state.ts";
import { PROVE_OPTIONS } from "../verify/options.ts";

const OPTIONS = ["datadir", "onUnproven", ...PROVE_OPTIONS, "superuser", "patroniConfig", "dryRun", "json"] as const;

export const script: Script<(typeof OPTIONS)[number]> = {
  name: "guard",
  summary: "Keep Patroni from adopting a restore that was interrupted before it was proven; run it before Patroni.",
  description:
    "Patroni promotes whatever it finds in its data directory and never runs post_bootstrap for it. While a restore is not " +
    "proven, a file <datadir>.unproven stands beside the data directory. Without that file guard is done at once. With it, " +
    "refuse ends with 21, wipe removes the restore so that Patroni bootstraps anew, and prove runs the checks first. " +
    "Only exit code 0 means that Patroni may start. Of a data directory that cannot be told to be the restore, nothing is " +
    "removed in any mode.",
  options: OPTIONS,
  required: ["datadir"],
  examples: [
    "# an image's entrypoint\nset -e\nguard.mjs --datadir /pgdata/data --on-unproven wipe\nexec patroni /etc/patroni.yml",
    "# systemd, for example /etc/systemd/system/patroni.service.d/guard.conf\n[Service]\n" +
      "ExecStartPre=/opt/patroni-restore/guard.mjs --datadir /var/lib/postgresql/demo/data",
    "# by hand: prove it after all, as the owner of the data directory\n" +
      "guard.mjs --datadir /pgdata/data --on-unproven prove --level full",
  ],
  async run({ settings, flags, log, signal, print }) {
    const datadir = resolve(settings.datadir as string);
    const receipt = settings.receipt === undefined ? {} : { receipt: resolve(settings.receipt) };
    const report = settings.report === undefined ? {} : { report: resolve(settings.report) };
    await guard({
      datadir,
      onUnproven: settings.onUnproven,
      dryRun: settings.dryRun,
      stopTimeoutMs: settings.stopTimeout,
      log,
      show(decision, unproven) {
        if (settings.json) print(describe(decision, unproven));
        else if (decision.action === "proceed") log.info("guard", decision.reason);
      },
      async prove(state) {
        // Only here, so that a start with nothing unproven waits for none of it.
        const { prove } = await import("../guard/prove.ts");
        const { configuredSuperuser } = await import("../io/patroni.ts");
        const superuser = settings.superuser ?? (await configuredSuperuser(settings.patroniConfig)) ?? "postgres";
        await prove({
          datadir,
          state,
          superuser,
          settings: { ...settings, ...receipt, ...report },
          flags,
          signal,
          log,
        });
      },
    });
  },
};

/** For machines: what is done and why, and whose restore it is. */
function describe(decision: GuardDecision, unproven: Unproven | null): string {
  return JSON.stringify({ ...decision, unproven }, null, 2);
}
