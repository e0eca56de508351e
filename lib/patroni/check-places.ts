/** Where the restored instance would archive to, and where it would stand. */

import { type ConfigReader, isFalse, toObject, toText, type Values, withoutSlash } from "./config-reader.ts";
import type { PatroniConfigFacts, PatroniConfigSummary } from "./patroni-config.ts";

export function checkArchiving(check: ConfigReader, postgresql: Values, dcs: Values, facts: PatroniConfigFacts): void {
  const sections: [string[], Values][] = [
    [["bootstrap", "dcs", "postgresql", "parameters"], toObject(toObject(dcs.postgresql).parameters)],
    [["postgresql", "parameters"], toObject(postgresql.parameters)],
  ];
  const isOff = sections.some(([, parameters]) => isFalse(parameters.archive_mode));
  for (const [at, parameters] of sections) {
    const command = toText(parameters.archive_command)?.trim();
    if (!command || isOff) continue;
    const place = [...at, "archive_command"];
    const stanza = /--stanza(?:=|\s+)["']?([^\s"']+)/.exec(command)?.[1];
    const isSources = stanza !== undefined && stanza === facts.source?.stanza;
    if (isSources && facts.detach === "restore-test") {
      const message = `archive_command names the source's stanza "${stanza}"; only the archive_mode=off of a restore test keeps it from archiving there`;
      check.warning(place, message);
    } else if (isSources) {
      check.problem(
        place,
        `this configuration would archive the restored instance into the source's stanza "${stanza}", and damage its backups`,
        "give it a stanza of its own, or set archive_mode: off",
      );
    } else if (/^((\/usr)?\/bin\/)?true$|^:$|^exit 0$/.test(command)) {
      const message = `archive_command "${command}" succeeds without storing anything: WAL and the new timeline's history count as archived and are gone`;
      if (facts.detach === "clone")
        check.problem(place, message, "set archive_mode: off, or /bin/false until the archive is ready");
      else check.warning(place, message);
    }
  }
}

export function checkDatadir(
  check: ConfigReader,
  postgresql: Values,
  summary: PatroniConfigSummary,
  facts: PatroniConfigFacts,
): void {
  const place = ["postgresql", "data_dir"];
  const { datadir } = summary;
  if (datadir === null) return;
  const isSame = (other: string | undefined) => other !== undefined && withoutSlash(other) === withoutSlash(datadir);
  if (!datadir.startsWith("/")) check.problem(place, `data_dir "${datadir}" is not an absolute path`);
  if (isSame(facts.source?.datadir)) {
    check.problem(place, `data_dir ${datadir} is the source's own data directory`, "choose another directory");
  }
  const configDir = toText(postgresql.config_dir);
  if (configDir !== null && !isSame(configDir)) {
    check.warning(
      ["postgresql", "config_dir"],
      `config_dir ${configDir} is not the data directory: Patroni demands a postgresql.conf there, which a restore does not bring`,
    );
  }
  const state = facts.datadir;
  if (state === undefined || !isSame(state.path)) return;
  if (state.kind === "link") {
    check.problem(
      place,
      `data_dir ${datadir} is a symbolic link; one rename could not put the restore in place`,
      "name the directory it leads to",
    );
  } else if (state.isMountPoint) {
    check.problem(
      place,
      `data_dir ${datadir} is a mount point: Patroni cannot rename a rejected restore away and adopts it at its next start`,
      `use a directory inside it, such as ${withoutSlash(datadir)}/data`,
    );
  } else if (state.kind === "other") {
    check.problem(place, `data_dir ${datadir} is not a directory`);
  } else if (!state.isEmpty) {
    check.problem(
      place,
      `data_dir ${datadir} is not empty: Patroni would start what is in it and restore nothing`,
      "remove or rename it",
    );
  } else if (!state.parentExists) {
    check.problem(
      place,
      `the parent directory of data_dir ${datadir} does not exist`,
      "create it, owned by Patroni's user",
    );
  } else if (!state.parentWritable) {
    check.problem(
      place,
      `the parent directory of data_dir ${datadir} is not writable`,
      "let Patroni's user write there",
    );
  }
}
