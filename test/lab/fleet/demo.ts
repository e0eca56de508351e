/**
 * `npm run demo:fleet`: three services of one machine, tested round and round. One is as it should be, one has lost WAL from
 * its archive, and one table was damaged before it was backed up; the fleet must say so of each, and prove the first again
 * when it is asked to.
 */

import { chalk } from "zx";
import { EXIT_CODES } from "../../../lib/errors.ts";
import type { Lab } from "../lab.ts";
import { waitFor } from "../process.ts";
import { query, type Source, startSource } from "../source.ts";
import { heading, say, step, tell } from "../tell.ts";
import { fleetOf, recordOf, serviceOf, servicesFile, startFleet } from "./fleet.ts";
import { loseWal, makeService } from "./services.ts";

const EXPECTED = { orders: "healthy", billing: "restore", archive: "unhealthy" };

async function story(lab: Lab): Promise<boolean> {
  heading("Three services with a pgBackRest repository each, and a database for the fleet's record");
  const record = await step("the record's PostgreSQL", () => startSource(lab, { stanza: "record" }));
  await query(record, "CREATE DATABASE fleet");
  const orders = await step("orders: as it should be", () => makeService(lab, "orders"));
  const billing = await step("billing: WAL is missing in its archive", async () => {
    const source = await makeService(lab, "billing");
    await loseWal(source);
    return source;
  });
  const archive = await step("archive: a page was damaged before its backup", () =>
    makeService(lab, "archive", { isDamaged: true }),
  );
  const entry = ({ conninfo, pgbackrestConfig }: Source) => ({
    source: conninfo,
    settings: { pgbackrest_config: pgbackrestConfig, runner: "direct" },
  });
  const file = await servicesFile(lab, "services.yml", {
    defaults: { interval: "1min", jitter: "0s" },
    services: { orders: entry(orders), billing: entry(billing), archive: entry(archive) },
  });

  heading("1. The fleet: it sees three services that were never tested");
  const fleet = await startFleet(lab, {
    ...{ record: recordOf(record), servicesFile: file, workDir: await lab.makeDirectory("w"), args: ["--max-tests=2"] },
  });
  say(`  the page: ${chalk.underline(fleet.url)} (while this runs)`);
  const verdicts = async () => {
    const { services } = await fleetOf(fleet);
    return Object.fromEntries(services.map(({ id, verdict }) => [id, verdict]));
  };
  const isDone = async () => !Object.values(await verdicts()).includes("never");
  await step("three restore tests, two at a time", () =>
    waitFor("the tests", isDone, 180_000, () => fleet.service.log()),
  );
  const ask = (...words: string[]) => lab.runScript("fleet", [...words, `--url=${fleet.url}`]);
  say(indented((await ask("status")).stdout));
  const first = await verdicts();

  heading("2. Why, and what next");
  for (const name of ["billing", "archive"]) say(indented((await ask("explain", name)).stdout));

  heading("3. A test of orders, asked for now");
  const before = (await serviceOf(fleet, "orders")).last_test?.id;
  const asked = await ask("test", "orders");
  say(indented(asked.stdout + asked.stderr));
  const isNew = async () => (await serviceOf(fleet, "orders")).last_test?.id !== before;
  await step("its end", () => waitFor("the test", isNew, 120_000, () => fleet.service.log()));

  heading("4. What monitoring sees");
  const metrics = (await fleet.get("/metrics")).text;
  const shown = /^patroni_restore_fleet_(age_seconds|last_healthy_timestamp_seconds|rto_seconds|tests_ended_total)\{/;
  say(
    indented(
      metrics
        .split("\n")
        .filter((line) => shown.test(line))
        .join("\n"),
    ),
  );
  const rates = await query(record, "SELECT * FROM patroni_restore_fleet.success_rate ORDER BY 1", {
    database: "fleet",
  });
  say(
    indented(
      `\nSELECT * FROM patroni_restore_fleet.success_rate;\n${rates.map((row) => JSON.stringify(row)).join("\n")}`,
    ),
  );
  const isPage = /<html/.test((await fleet.get("/")).text);

  const last = await verdicts();
  await fleet.service.stop("SIGTERM", 30_000);
  const results = [
    [JSON.stringify(first) === JSON.stringify(sorted(EXPECTED)), `the verdicts are ${JSON.stringify(first)}`],
    [last.orders === "healthy" && asked.exitCode === 0, "orders is proven again"],
    [isPage && shown.test(metrics.split("\n").find((line) => shown.test(line)) ?? ""), "page and metrics are there"],
    [(await ask("status")).exitCode === EXIT_CODES.SOURCE_UNREACHABLE, "a fleet that is gone is said to be gone"],
  ] as const;
  say("");
  for (const [isRight, words] of results)
    say(`  ${isRight ? chalk.green("as expected") : chalk.red("NOT as expected")}: ${words}`);
  return results.every(([isRight]) => isRight);
}

const sorted = (object: Record<string, string>) => Object.fromEntries(Object.entries(object).sort());

const indented = (text: string) => text.trimEnd().replace(/^/gm, "  ");

await tell("fleet", "one service is proven, twice, and two are not", story);
