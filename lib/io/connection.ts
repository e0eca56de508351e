/**
 * From libpq's parameters to an open connection, as libpq would make it: environment, several hosts, target_session_attrs,
 * password file, TLS. node-postgres knows few of these and would silently connect elsewhere, as someone else or in the clear.
 */

import { readFileSync, statSync } from "node:fs";
import { homedir, userInfo } from "node:os";
import { join } from "node:path";
import type { Duplex as Stream } from "node:stream";
import type { ConnectionOptions as TlsOptions } from "node:tls";

import pg from "pg";
import { messageOf, RestoreError } from "../errors.ts";
import { type Conninfo, findPassword } from "../postgres/conninfo.ts";

/** libpq's own variables: https://www.postgresql.org/docs/15/libpq-envars.html */
const ENVIRONMENT: Readonly<Record<string, string>> = {
  host: "PGHOST",
  hostaddr: "PGHOSTADDR",
  port: "PGPORT",
  dbname: "PGDATABASE",
  user: "PGUSER",
  password: "PGPASSWORD",
  passfile: "PGPASSFILE",
  options: "PGOPTIONS",
  sslmode: "PGSSLMODE",
  sslcert: "PGSSLCERT",
  sslkey: "PGSSLKEY",
  sslrootcert: "PGSSLROOTCERT",
  sslcrl: "PGSSLCRL",
  ssl_min_protocol_version: "PGSSLMINPROTOCOLVERSION",
  connect_timeout: "PGCONNECT_TIMEOUT",
  target_session_attrs: "PGTARGETSESSIONATTRS",
  service: "PGSERVICE",
  requirepeer: "PGREQUIREPEER",
  channel_binding: "PGCHANNELBINDING",
  gssencmode: "PGGSSENCMODE",
  require_auth: "PGREQUIREAUTH",
};

/** What node-postgres cannot do; a connection without it would be another one than was asked for. */
const UNSUPPORTED: Readonly<Record<string, (value: string) => boolean>> = {
  service: () => true,
  requirepeer: () => true,
  require_auth: () => true,
  channel_binding: (value) => value === "require",
  gssencmode: (value) => value === "require",
  sslcrldir: () => true,
  replication: (value) => !/^(false|off|no|0)$/.test(value),
};

const DEFAULT_SOCKET_DIRECTORY = "/var/run/postgresql";
const DEFAULT_PORT = "5432";

type Parameters = (keyword: string) => string | undefined;

/** Connection string before environment; an empty value counts as not given. Throws SETTINGS_INVALID. */
function parametersOf(conninfo: Conninfo): Parameters {
  const lookUp: Parameters = (keyword) => conninfo[keyword] || process.env[ENVIRONMENT[keyword] ?? ""] || undefined;
  for (const [keyword, isMeant] of Object.entries(UNSUPPORTED)) {
    const value = lookUp(keyword);
    if (value !== undefined && isMeant(value)) {
      const source = conninfo[keyword] ? "connection parameter" : `environment variable ${ENVIRONMENT[keyword]} for`;
      throw new RestoreError("SETTINGS_INVALID", `the ${source} "${keyword}" is not supported here`, {
        hint: "write host, port, user and dbname, and use sslmode for encryption",
      });
    }
  }
  return lookUp;
}

export interface ConnectionLimits {
  connectTimeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Every further member goes to node-postgres as it is. Errors of PostgreSQL keep their SQLSTATE in `code`. */
export async function connect(
  conninfo: Conninfo,
  limits: ConnectionLimits,
  further: pg.ClientConfig,
): Promise<pg.Client> {
  const parameters = parametersOf(conninfo);
  const seconds = Number(parameters("connect_timeout") ?? 0);
  const config: pg.ClientConfig = {
    ...identityOf(parameters),
    keepAlive: true,
    connectionTimeoutMillis: limits.connectTimeoutMs ?? (seconds > 0 ? seconds * 1000 : 10_000),
    ...further,
  };
  const wanted = parameters("target_session_attrs") ?? "any";
  const rounds = wanted === "prefer-standby" ? ["standby", "any"] : [wanted];
  const errors: unknown[] = [];
  for (const attribute of rounds) {
    for (const place of placesOf(parameters)) {
      try {
        const client = await connectTo(place, parameters, config, limits.signal);
        if (await hasAttribute(client, attribute)) return client;
        await closeConnection(client);
        errors.push(new Error(`the server at ${nameOf(place)} is not ${attribute}`));
      } catch (error) {
        limits.signal?.throwIfAborted();
        errors.push(error);
      }
    }
  }
  if (errors.length === 1) throw errors[0];
  throw new AggregateError(errors, [...new Set(errors.map(messageOf))].join("; "));
}

/** Ends the session; a server that does not answer is left after two seconds. */
export async function closeConnection(client: pg.Client): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise((resolve) => {
    timer = setTimeout(resolve, 2000);
  });
  await Promise.race([client.end().catch(() => {}), limit]);
  clearTimeout(timer);
  breakConnection(client);
}

/** Cuts the connection at once; whatever waits for it fails. */
export function breakConnection(client: pg.Client): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}

/** Resolves when the connection is gone: closed, cut, or ended by the server. */
export function whenGone(client: pg.Client): Promise<void> {
  const { stream } = (client as unknown as { connection: { stream: Stream } }).connection;
  return new Promise((resolve) => {
    if (stream.destroyed) resolve();
    else stream.once("close", () => resolve());
  });
}

interface Place {
  /** As given: a name for certificates and the password file. */
  host: string | undefined;
  /** Where to connect. */
  address: string;
  port: string;
}

const nameOf = (place: Place) => `${place.host ?? place.address}:${place.port}`;
const isSocket = (place: Place) => place.address.startsWith("/");

/** Several hosts are tried in order, as libpq does: https://www.postgresql.org/docs/15/libpq-connect.html */
function placesOf(parameters: Parameters): Place[] {
  const hosts = parameters("host")?.split(",") ?? [];
  const addresses = parameters("hostaddr")?.split(",") ?? [];
  const ports = parameters("port")?.split(",") ?? [];
  const count = Math.max(hosts.length, addresses.length, 1);
  if (ports.length > 1 && ports.length !== count) {
    throw new RestoreError("SETTINGS_INVALID", `${ports.length} ports do not match ${count} hosts`);
  }
  return Array.from({ length: count }, (_, index) => {
    const port = (ports.length === 1 ? ports[0] : ports[index]) || DEFAULT_PORT;
    if (!/^\d+$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
      throw new RestoreError("SETTINGS_INVALID", `port "${port}" is not a number from 1 to 65535`);
    }
    const host = hosts[index] || undefined;
    return { host, address: addresses[index] || host || DEFAULT_SOCKET_DIRECTORY, port };
  });
}

function identityOf(parameters: Parameters): pg.ClientConfig {
  const user = parameters("user") ?? operatingSystemUser();
  const database = parameters("dbname") ?? user;
  const options = parameters("options");
  return {
    ...(user === undefined ? {} : { user }),
    ...(database === undefined ? {} : { database }),
    ...(options === undefined ? {} : { options }),
  };
}

/** libpq takes the effective user; node-postgres would take $USER, which a service does not have. */
function operatingSystemUser(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    return undefined;
  }
}

async function connectTo(
  place: Place,
  parameters: Parameters,
  config: pg.ClientConfig,
  signal: AbortSignal | undefined,
): Promise<pg.Client> {
  const attempts = tlsAttempts(place, parameters);
  for (const [index, ssl] of attempts.entries()) {
    const client = new pg.Client({
      ...config,
      host: place.address,
      port: Number(place.port),
      password: passwordFor(place, parameters, config),
      ssl,
    });
    // A connection that breaks while idle raises an event; the next query reports it too.
    client.on("error", () => {});
    const onAbort = () => breakConnection(client);
    signal?.throwIfAborted();
    signal?.addEventListener("abort", onAbort);
    try {
      await client.connect();
      return client;
    } catch (error) {
      breakConnection(client);
      if (index === attempts.length - 1 || !isAboutEncryption(error)) throw error;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }
  throw new Error("no way to connect");
}

/** The server has no TLS, or pg_hba.conf refuses the connection with or without it. */
function isAboutEncryption(error: unknown): boolean {
  return (error as { code?: unknown }).code === "28000" || messageOf(error).includes("does not support SSL");
}

/** What libpq tries for each sslmode, in order; sockets of the machine are never encrypted. */
function tlsAttempts(place: Place, parameters: Parameters): (false | TlsOptions)[] {
  const mode = isSocket(place) ? "disable" : (parameters("sslmode") ?? "prefer");
  switch (mode) {
    case "disable":
      return [false];
    case "allow":
      return [false, tlsOptions(place, parameters, mode)];
    case "prefer":
      return [tlsOptions(place, parameters, mode), false];
    case "require":
    case "verify-ca":
    case "verify-full":
      return [tlsOptions(place, parameters, mode)];
    default:
      throw new RestoreError("SETTINGS_INVALID", `sslmode "${mode}" is not one of libpq's`, {
        hint: "use disable, allow, prefer, require, verify-ca or verify-full",
      });
  }
}

function tlsOptions(place: Place, parameters: Parameters, mode: string): TlsOptions {
  const rootCertificate = parameters("sslrootcert") === "system" ? undefined : certificate("sslrootcert", "root.crt");
  // With a root certificate "require" means "verify-ca", says libpq-ssl.
  const verify = mode.startsWith("verify") || (mode === "require" && rootCertificate !== undefined);
  if (mode.startsWith("verify") && rootCertificate === undefined && parameters("sslrootcert") !== "system") {
    throw new RestoreError("SETTINGS_INVALID", `sslmode "${mode}" needs a root certificate`, {
      hint: "give sslrootcert=FILE, or sslrootcert=system for the operating system's",
    });
  }
  const crl = certificate("sslcrl", "root.crl");
  const cert = certificate("sslcert", "postgresql.crt");
  const key = certificate("sslkey", "postgresql.key");
  const passphrase = parameters("sslpassword");
  const minVersion = parameters("ssl_min_protocol_version") as TlsOptions["minVersion"] | undefined;
  return {
    rejectUnauthorized: verify,
    ...(place.host === undefined ? {} : { servername: /^[\d.]+$|:/.test(place.host) ? "" : place.host }),
    ...(mode === "verify-full" ? {} : { checkServerIdentity: () => undefined }),
    ...(rootCertificate && verify ? { ca: rootCertificate } : {}),
    ...(crl && verify ? { crl } : {}),
    ...(cert && key ? { cert, key } : {}),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(minVersion === undefined ? {} : { minVersion }),
  };

  function certificate(keyword: string, usualName: string): string | undefined {
    const given = parameters(keyword);
    try {
      return readFileSync(given ?? join(homedir(), ".postgresql", usualName), "utf8");
    } catch (error) {
      if (given === undefined) return undefined;
      throw new RestoreError("SETTINGS_INVALID", `cannot read ${keyword} ${given}: ${messageOf(error)}`);
    }
  }
}

/** Only asked for when the server wants a password. */
function passwordFor(place: Place, parameters: Parameters, config: pg.ClientConfig): () => string {
  return () => {
    const password = parameters("password");
    if (password !== undefined) return password;
    const path = parameters("passfile") ?? join(homedir(), ".pgpass");
    const text = readPasswordFile(path);
    // For the default socket directory libpq looks for "localhost".
    const isDefaultSocket = place.address === DEFAULT_SOCKET_DIRECTORY;
    const host = isDefaultSocket ? "localhost" : (place.host ?? place.address);
    const found = findPassword(text, {
      host,
      port: place.port,
      dbname: config.database ?? "",
      user: typeof config.user === "string" ? config.user : "",
    });
    if (found === undefined) throw new Error(`the server at ${nameOf(place)} wants a password and none was given`);
    return found;
  };
}

function readPasswordFile(path: string): string {
  try {
    const status = statSync(path);
    if (status.isFile() && (status.mode & 0o077) !== 0) {
      throw new RestoreError("SETTINGS_INVALID", `password file ${path} has group or world access`, {
        hint: "permissions should be u=rw (0600) or less",
      });
    }
    return status.isFile() ? readFileSync(path, "utf8") : "";
  } catch (error) {
    if (error instanceof RestoreError) throw error;
    return "";
  }
}

async function hasAttribute(client: pg.Client, attribute: string): Promise<boolean> {
  if (attribute === "any") return true;
  const result = await client.query(
    "SELECT pg_catalog.pg_is_in_recovery()::text AS standby, pg_catalog.current_setting('transaction_read_only') AS read_only",
  );
  const { standby, read_only } = result.rows[0] as { standby: string; read_only: string };
  switch (attribute) {
    case "primary":
      return standby === "false";
    case "standby":
      return standby === "true";
    case "read-write":
      return read_only === "off";
    case "read-only":
      return read_only === "on";
    default:
      throw new RestoreError("SETTINGS_INVALID", `target_session_attrs "${attribute}" is not one of libpq's`, {
        hint: "use any, read-write, read-only, primary, standby or prefer-standby",
      });
  }
}
