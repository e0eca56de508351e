/** What a configuration of Patroni finds on this host. */

import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ENVIRONMENT_VARIABLE_OF, type PatroniConfigFacts, programsOf } from "../patroni/patroni-config.ts";
import { runCommand } from "./command.ts";
import { exists, isWritable, list, lstatIfExists, mountPoints } from "./files.ts";
import { isEmptyForPatroni } from "./patroni.ts";

/**
 * What `checkPatroniConfig` cannot see in the text: the programs it names, the data directory, Patroni's version and
 * which settings come from the environment.
 */
export async function patroniConfigFacts(
  text: string,
  options: {
    environment?: Readonly<Record<string, string | undefined>>;
    signal?: AbortSignal;
  } = {},
): Promise<Pick<PatroniConfigFacts, "environment" | "patroniVersion" | "programs" | "datadir">> {
  const environment = options.environment ?? process.env;
  const { programs, datadir } = programsOf(text);
  const directory = environment[ENVIRONMENT_VARIABLE_OF.datadir] ?? datadir;
  return {
    environment,
    patroniVersion: await patroniVersion(options.signal),
    programs: Object.fromEntries(
      await Promise.all(programs.map(async ({ path, kind }) => [path, await programState(path, kind)] as const)),
    ),
    ...(directory === undefined ? {} : { datadir: await datadirFacts(directory) }),
  };
}

/** Null when Patroni is not installed here: the configuration is then checked for no version in particular. */
async function patroniVersion(signal: AbortSignal | undefined): Promise<string | null> {
  const result = await runCommand("patroni", ["--version"], { timeoutMs: 20_000, signal }).catch(() => {
    signal?.throwIfAborted();
    return undefined;
  });
  return /^patroni (\d+(\.\d+)*)/m.exec(result?.stdout ?? "")?.[1] ?? null;
}

async function programState(path: string, kind: "program" | "script") {
  const candidates = path.includes("/")
    ? [path]
    : (process.env.PATH ?? "").split(":").map((directory) => join(directory || ".", path));
  for (const candidate of candidates) {
    const found = await stat(candidate).catch(() => undefined);
    if (!found?.isFile()) continue;
    return kind === "script" || (found.mode & 0o111) !== 0 ? "ok" : "not executable";
  }
  return "not found";
}

async function datadirFacts(path: string): Promise<NonNullable<PatroniConfigFacts["datadir"]>> {
  const status = await lstatIfExists(path);
  const names = status?.isDirectory() ? await list(path) : [];
  const parent = dirname(path);
  return {
    path,
    kind:
      status === undefined ? "absent" : status.isSymbolicLink() ? "link" : status.isDirectory() ? "directory" : "other",
    isMountPoint: (await mountPoints()).has(path.replace(/(.)\/+$/, "$1")),
    isEmpty: isEmptyForPatroni(names),
    parentExists: await exists(parent),
    parentWritable: await isWritable(parent),
  };
}
