import { resolve } from "node:path";
import type { Script } from "../cli.ts";
import { combineProblems } from "../errors.ts";
import { readTextOrExplain, removeTree } from "../io/files.ts";
import { patroniConfigFacts } from "../io/patroni-config-facts.ts";
import { makeTemporaryDirectory } from "../io/temporary.ts";
import type { Settings } from "../options.ts";
import { checkPatroniConfig, type PatroniConfigCheck } from "../patroni/patroni-config.ts";
import { PLAN_OPTIONS } from "../restore/options.ts";
import { describePlan } from "../restore/plan.ts";
import { examine, readRequest } from "../restore/preflight.ts";

const OPTIONS = [...PLAN_OPTIONS, "detach", "patroniConfig", "json"] as const;

export const script: Script<(typeof OPTIONS)[number]> = {
  name: "preflight",
  summary: "Say what a restore would do, and everything that would go wrong. Changes nothing.",
  description:
    "Prints the plan: backup set and why, WAL range, space, target and command. All problems are reported at once, " +
    "those of Patroni's configuration file too. Exit code 0 means that nothing speaks against the restore.",
  options: OPTIONS,
  examples: [
    `preflight.mjs --stanza main --datadir /var/lib/postgresql/demo/data --restore-target-time "2026-11-22 10:00:00+00"`,
    `# with the data directory and the scope of Patroni's own configuration\npreflight.mjs --stanza main --receipt receipt.json --patroni-config /etc/patroni.yml`,
  ],
  async run({ settings, log, signal, print }) {
    const patroni =
      settings.patroniConfig === undefined ? undefined : await checkPatroni(settings.patroniConfig, settings, signal);
    const scope = settings.scope ?? patroni?.summary.scope ?? undefined;
    const datadir = settings.datadir ?? patroni?.summary.datadir ?? undefined;
    const wanted = {
      ...settings,
      ...(scope === undefined ? {} : { scope }),
      ...(datadir === undefined ? {} : { datadir }),
      ...(settings.receipt === undefined ? {} : { receipt: resolve(settings.receipt) }),
    };
    const workDir = await makeTemporaryDirectory();
    try {
      const { problems, found } = await examine(wanted, await readRequest(wanted), { workDir, signal });
      const warnings = [...(found?.plan.warnings ?? []), ...(patroni?.warnings ?? [])];
      const all = [...problems, ...(patroni?.problems ?? [])];
      if (settings.json) print(JSON.stringify({ plan: found?.plan ?? null, problems: all, warnings }, null, 2));
      else if (found !== undefined) print(describePlan(found.plan));
      for (const warning of warnings) log.warn("preflight", warning);
      if (all.length > 0) throw combineProblems("PREFLIGHT_FAILED", all);
      log.info("preflight", "nothing speaks against this restore");
    } finally {
      await removeTree(workDir);
    }
  },
};

async function checkPatroni(
  path: string,
  settings: Settings<"stanza" | "detach">,
  signal: AbortSignal,
): Promise<PatroniConfigCheck> {
  const text = await readTextOrExplain(path, "Patroni configuration");
  return checkPatroniConfig(text, path, {
    ...(await patroniConfigFacts(text, { signal })),
    detach: settings.detach,
    ...(settings.stanza === undefined ? {} : { source: { stanza: settings.stanza } }),
  });
}
