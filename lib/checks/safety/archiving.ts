/**
 * The instance has the source's system identifier, so pgBackRest would take its WAL into the source's repository and
 * spoil it: every later restore would follow the wrong timeline. Nothing may archive there.
 */

import { type Check, EVERY_LEVEL, type Judgement, plural } from "../check.ts";

export interface ArchivingFacts {
  archive_mode: string;
  /** As configured, even when archiving is off. */
  archive_command: string;
  archive_library: string;
  archived_count: number;
  failed_count: number;
  last_archived_wal: string | null;
}

export const archiving: Check<ArchivingFacts> = {
  id: "archiving",
  claim: "safety",
  levels: EVERY_LEVEL,
  collect: (edge) =>
    edge.sql(null, async (database) => {
      const settings = await database.query<{ name: string; setting: string }>(
        "SELECT name, setting FROM pg_settings WHERE name IN ('archive_mode', 'archive_command', 'archive_library')",
      );
      const setting = (name: string) => settings.find((s) => s.name === name)?.setting ?? "";
      const archiver = await database.row<Record<"archived" | "failed", string> & { last: string | null }>(
        `SELECT archived_count::text AS archived, failed_count::text AS failed, last_archived_wal AS last
           FROM pg_stat_archiver`,
      );
      return {
        archive_mode: setting("archive_mode"),
        archive_command: setting("archive_command"),
        archive_library: setting("archive_library"),
        archived_count: Number(archiver.archived),
        failed_count: Number(archiver.failed),
        last_archived_wal: archiver.last,
      };
    }),
  judge: (facts, { detach, evidence }) =>
    detach === "clone" ? judgeClone(facts, evidence?.stanza ?? null) : judgeRestoreTest(facts),
};

function judgeRestoreTest({ archive_mode, archived_count, last_archived_wal }: ArchivingFacts): Judgement {
  if (archived_count > 0) {
    return {
      status: "fail",
      summary: `the instance archived ${plural(archived_count, "WAL segment")}, the last one ${last_archived_wal}`,
      hint: "if it went to the source's stanza, make a full backup of the source now: restores would follow the wrong timeline",
    };
  }
  if (archive_mode !== "off") {
    return {
      status: "fail",
      summary: `archive_mode is ${archive_mode}: the instance can archive into the source's repository`,
      hint: "set archive_mode=off in Patroni's local postgresql.parameters, which override the DCS",
    };
  }
  return { status: "pass", summary: "archive_mode is off and no WAL was archived" };
}

function judgeClone(facts: ArchivingFacts, sourceStanza: string | null): Judgement {
  const { archive_mode, archive_command, archive_library, archived_count } = facts;
  if (archive_mode === "off") {
    if (archived_count > 0) return judgeRestoreTest(facts);
    return { status: "pass", summary: "archive_mode is off and no WAL was archived; the clone has no backups yet" };
  }
  if (archive_library !== "") {
    return {
      status: "unverified",
      summary: `archive_library "${archive_library}" archives: nobody can say where to`,
      hint: "use archive_command with pgbackrest and the clone's own --stanza",
    };
  }
  const destination = archiveDestination(archive_command);
  switch (destination.kind) {
    case "nowhere":
      return {
        status: "warn",
        summary: `archive_mode is ${archive_mode}, but archive_command "${archive_command}" archives nothing: WAL piles up`,
        hint: "set archive_command with the clone's own stanza",
      };
    case "discarded":
      return {
        status: "fail",
        summary: `archive_command "${archive_command}" throws WAL away and reports it as archived`,
        hint: "a clone that looks archived and is not cannot be restored: set its own stanza, or archive_mode=off",
      };
    case "unknown":
      return {
        status: "unverified",
        summary: `cannot tell where archive_command archives to: ${destination.why}`,
        hint: "write it as pgbackrest --stanza=CLONE archive-push %p",
      };
    case "stanza":
      if (sourceStanza === null) {
        return {
          status: "unverified",
          summary: `archives to stanza ${destination.stanza}, and nobody says which the source's is`,
          hint: "the report of the restore names it: give --datadir",
        };
      }
      if (destination.stanza === sourceStanza) {
        return {
          status: "fail",
          summary: `archive_command archives into the source's stanza ${sourceStanza}`,
          hint: "give the clone a stanza of its own, and make a full backup of the source if it archived already",
        };
      }
      return {
        status: "pass",
        summary: `archives to its own stanza ${destination.stanza}, not to the source's ${sourceStanza}`,
      };
  }
}

export type ArchiveDestination =
  | { kind: "stanza"; stanza: string }
  | { kind: "nowhere" }
  | { kind: "discarded" }
  | { kind: "unknown"; why: string };

/** Only a single plain `pgbackrest … archive-push` with its stanza in the open is understood; nothing is guessed. */
export function archiveDestination(command: string): ArchiveDestination {
  const text = command.trim();
  if (text === "") return { kind: "nowhere" };
  const words = shellWords(text);
  if (words === null) return { kind: "unknown", why: "it is more than one plain command" };
  const first = words.find((word) => !/^[A-Za-z_]\w*=/.test(word)) ?? "";
  const program = first.split("/").at(-1) ?? "";
  if (program === "false") return { kind: "nowhere" };
  if ([":", "true", "echo", "cd", "test", "["].includes(program)) return { kind: "discarded" };
  if (program === "exit") return words.includes("0") ? { kind: "discarded" } : { kind: "nowhere" };
  if (program !== "pgbackrest") return { kind: "unknown", why: `"${program}" is not pgbackrest` };
  if (!words.includes("archive-push")) return { kind: "unknown", why: "it does not run archive-push" };
  const stanzas = words.flatMap((word, index) => {
    const named = /^(?:--stanza|PGBACKREST_STANZA)=(.*)$/s.exec(word)?.[1];
    return named ?? (word === "--stanza" ? (words[index + 1] ?? []) : []);
  });
  const [stanza] = stanzas;
  if (stanza === undefined || stanza === "") {
    return { kind: "unknown", why: "its stanza comes from the environment or a configuration file" };
  }
  if (new Set(stanzas).size > 1) return { kind: "unknown", why: `it names several stanzas: ${stanzas.join(", ")}` };
  return { kind: "stanza", stanza };
}

/** Words as a shell would split them; null when the shell would do more than that (`;`, `|`, `$VAR`, backquotes, …). */
function shellWords(text: string): string[] | null {
  const words: string[] = [];
  let word: string | null = null;
  for (let at = 0; at < text.length; at++) {
    const character = text[at] as string;
    if (/[;&|<>()$`\n#~*?{}!]/.test(character)) return null;
    if (character === "'" || character === '"') {
      const end = text.indexOf(character, at + 1);
      if (end < 0) return null;
      const quoted = text.slice(at + 1, end);
      if (character === '"' && /[$`\\]/.test(quoted)) return null;
      word = (word ?? "") + quoted;
      at = end;
    } else if (character === "\\") {
      if (at + 1 >= text.length) return null;
      word = (word ?? "") + text[++at];
    } else if (character === " " || character === "\t") {
      if (word !== null) words.push(word);
      word = null;
    } else word = (word ?? "") + character;
  }
  if (word !== null) words.push(word);
  return words;
}
