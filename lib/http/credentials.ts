/** What an API shows to its clients and asks of them: certificate and tokens, in files that change while it runs. */

import { RestoreError } from "../errors.ts";
import { describeFileError } from "../io/files.ts";
import { watchFile } from "../io/watched-file.ts";
import type { Log } from "../log.ts";
import { parseTokens } from "./tokens.ts";

export interface TlsSettings {
  tlsCertFile: string | undefined;
  tlsKeyFile: string | undefined;
}

/** `name` is the API's. Throws SETTINGS_INVALID when they cannot be used from the start. */
export function openTokens(file: string | undefined, name: string, log: Log): (() => string[]) | null {
  if (file === undefined) return null;
  const watched = watchFile(file);
  const explain = (error: unknown) => `--token-file ${file} cannot be used: ${describeFileError(error)}`;
  try {
    parseTokens(watched.read());
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", explain(error));
  }
  return () => {
    try {
      return parseTokens(watched.read());
    } catch (error) {
      // Whoever asks has shown no token: the place of the file is none of their business.
      log.error("http", explain(error));
      throw new RestoreError("PREFLIGHT_FAILED", `no token can be checked at present; the log of ${name} says why`);
    }
  };
}

/** Throws SETTINGS_INVALID when there is only one of them. */
export function tlsFiles({ tlsCertFile, tlsKeyFile }: TlsSettings): { certFile: string; keyFile: string } | null {
  if (tlsCertFile === undefined && tlsKeyFile === undefined) return null;
  if (tlsCertFile !== undefined && tlsKeyFile !== undefined) return { certFile: tlsCertFile, keyFile: tlsKeyFile };
  throw new RestoreError("SETTINGS_INVALID", "--tls-cert-file and --tls-key-file go together");
}
