/** Where an API may listen. Its callers start backups and tests, and see what a service consists of. */

import type { Problem } from "../restore/backup-info.ts";

export interface Listen {
  host: string;
  port: number;
}

/** `127.0.0.1:8081`, `[::]:8081`, `:8081` (every address). Throws a plain Error with the sentence to show. */
export function parseListen(text: string): Listen {
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:[\]\s]*):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > 65_535)
    throw new Error(`"${text}" is not of the form HOST:PORT, such as 127.0.0.1:8081`);
  const host = (match[1] ?? "").replace(/^\[|\]$/g, "");
  return { host: host === "" || host === "*" ? "::" : host, port };
}

export function formatListen({ host, port }: Listen): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

export interface Protection {
  hasToken: boolean;
  hasTls: boolean;
  /** Asked for with --insecure. */
  isInsecure: boolean;
}

/** What is missing for listening there, if anything. A token without TLS could be read by everybody on the way. */
export function listenProblems(listen: Listen, { hasToken, hasTls, isInsecure }: Protection): Problem[] {
  if (isLoopback(listen.host) || isInsecure) return [];
  const missing = [...(hasToken ? [] : ["--token-file"]), ...(hasTls ? [] : ["--tls-cert-file and --tls-key-file"])];
  if (missing.length === 0) return [];
  return [
    {
      message: `--listen ${formatListen(listen)} is reachable from other machines, and there is no ${missing.join(" and no ")}`,
      hint: "give them, listen on 127.0.0.1 only, or say --insecure where a network policy or a service mesh protects it",
    },
  ];
}
