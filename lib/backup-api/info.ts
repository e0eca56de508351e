/** `pgbackrest info --output=json` for people and machines that watch backups: judged by its status codes alone. */

import type { Problem, StanzaInfo } from "../restore/backup-info.ts";
import { parseInfo } from "../restore/backup-info.ts";
import { describeText } from "../restore/repository-error.ts";

/** A backup set as pgBackRest describes it, with all its members. */
export type SetDescription = Readonly<Record<string, unknown>> & {
  label: string;
  type: string;
  timestamp: { start: number; stop: number };
};

export interface StanzaAnswer {
  stanza: string;
  /** pgBackRest's own text: a system identifier is beyond what a JavaScript number can hold. */
  text: string;
  info: StanzaInfo | undefined;
  sets: readonly SetDescription[];
}

export function readAnswer(stanza: string, text: string): StanzaAnswer {
  const entry = (JSON.parse(text) as { name: string; backup?: SetDescription[] }[]).find(({ name }) => name === stanza);
  return { stanza, text, info: parseInfo(text, stanza), sets: entry?.backup ?? [] };
}

/** What is wrong, of every repository: one that fails is one copy less, even if another one works. */
export function answerProblems({ stanza, info }: StanzaAnswer): Problem[] {
  if (info === undefined) return [{ message: `stanza "${stanza}" is not known to pgBackRest` }];
  const broken = info.repo.filter(({ status }) => status.code !== 0);
  const name = `stanza "${stanza}"`;
  if (broken.length > 0) {
    return broken.map(({ key, status }) => ({ message: `${name}: ${firstLine(status)} in repo${key}` }));
  }
  return info.status.code === 0 ? [] : [{ message: `${name}: ${firstLine(info.status)}` }];
}

const firstLine = ({ code, message }: { code: number; message: string }) => `${describeText(message)} (code ${code})`;

/** pgBackRest's array, as if it had been asked for all of these stanzas at once. */
export function joinTexts(answers: readonly StanzaAnswer[]): string {
  const members = answers.map(({ text }) => text.trim().replace(/^\[|\]$/g, "")).filter((text) => text.trim() !== "");
  return `[${members.join(",")}]`;
}
