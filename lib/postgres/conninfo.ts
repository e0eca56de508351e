/**
 * libpq connection strings. Patroni appends a keyword/value string to `post_bootstrap` (values escaped with a backslash,
 * never a password: patroni 3.0.2 postgresql/config.py, format_dsn); node-postgres cannot parse that form and would
 * silently connect elsewhere, so it is parsed here. Syntax: https://www.postgresql.org/docs/15/libpq-connect.html
 */

/** Connection parameters by libpq's own keywords (`host`, `port`, `dbname`, `user`, `password`, `sslmode`, …). */
export type Conninfo = Readonly<Record<string, string>>;

const KEYWORDS = new Set([
  "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "channel_binding", "connect_timeout",
  "client_encoding", "options", "application_name", "fallback_application_name", "keepalives", "keepalives_idle",
  "keepalives_interval", "keepalives_count", "tcp_user_timeout", "replication", "gssencmode", "sslmode", "requiressl",
  "sslcompression", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "sslsni",
  "sslcertmode", "sslnegotiation", "requirepeer", "ssl_min_protocol_version", "ssl_max_protocol_version",
  "krbsrvname", "gsslib", "gssdelegation", "service", "target_session_attrs", "load_balance_hosts", "require_auth",
]); // biome-ignore format: a list

/** Parses a keyword/value string or a `postgresql://` URI. Throws a plain Error that names the place, never a value. */
export function parseConninfo(text: string): Conninfo {
  if (/^postgres(ql)?:\/\//.test(text.trimStart())) return checked(parseUri(text.trim()));
  return checked(parseKeywords(text));
}

function checked(conninfo: Record<string, string>): Conninfo {
  for (const keyword of Object.keys(conninfo)) {
    if (!KEYWORDS.has(keyword)) throw new Error(`"${keyword}" is not a connection parameter of libpq`);
  }
  return conninfo;
}

/** What isspace() of C finds; a no-break space is part of a name. */
const SPACE = /[ \t\n\v\f\r]/;

function parseKeywords(text: string): Record<string, string> {
  const result: Record<string, string> = {};
  let at = 0;
  const skipSpace = () => {
    while (at < text.length && SPACE.test(text[at] as string)) at++;
  };
  for (skipSpace(); at < text.length; skipSpace()) {
    const match = /^([A-Za-z_]+)[ \t\n\v\f\r]*=[ \t\n\v\f\r]*/.exec(text.slice(at));
    if (!match?.[1]) throw new Error(`expected "keyword=value" at character ${at + 1} of the connection string`);
    at += match[0].length;
    const quoted = text[at] === "'";
    if (quoted) at++;
    let value = "";
    for (;;) {
      const character = text[at];
      if (character === undefined) {
        if (quoted) throw new Error(`the quoted value of "${match[1]}" is not closed in the connection string`);
        break;
      }
      if (quoted ? character === "'" : SPACE.test(character)) break;
      if (character === "\\") at++;
      value += text[at] ?? "";
      at++;
    }
    if (quoted) at++;
    result[match[1]] = value;
  }
  return result;
}

function parseUri(text: string): Record<string, string> {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(text);
  if (!match) throw new Error("the connection URI is not of the form postgresql://user@host:port/dbname?key=value");
  const [, userinfo, hosts = "", dbname, query] = match;
  const result: Record<string, string> = {};
  const set = (key: string, value: string | undefined) => {
    if (value) result[key] = decode(value);
  };
  if (userinfo) {
    const colon = userinfo.indexOf(":");
    set("user", colon < 0 ? userinfo : userinfo.slice(0, colon));
    if (colon >= 0) set("password", userinfo.slice(colon + 1));
  }
  const parts = hosts.split(",").map((h) => /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(h));
  if (parts.some((p) => p === null)) throw new Error("the host of the connection URI is not valid");
  set("host", parts.map((p) => p?.[1]?.replace(/^\[|\]$/g, "") ?? "").join(","));
  if (parts.some((p) => p?.[2])) set("port", parts.map((p) => p?.[2] ?? "").join(","));
  set("dbname", dbname);
  for (const pair of query ? query.split("&") : []) {
    const equals = pair.indexOf("=");
    if (equals < 0) throw new Error("a parameter of the connection URI has no value");
    set(decode(pair.slice(0, equals)), pair.slice(equals + 1));
  }
  return result;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error("the connection URI holds an invalid percent escape");
  }
}

/** The keyword/value form that every libpq program accepts, each value quoted. */
export function formatConninfo(conninfo: Conninfo): string {
  return Object.entries(conninfo)
    .map(([keyword, value]) => `${keyword}='${value.replace(/[\\']/g, "\\$&")}'`)
    .join(" ");
}

/** For logs and reports: the same without anything secret. */
export function describeConninfo(conninfo: Conninfo): string {
  return ["host", "hostaddr", "port", "dbname", "user", "service"]
    .filter((keyword) => conninfo[keyword] !== undefined)
    .map((keyword) => `${keyword}=${conninfo[keyword]}`)
    .join(" ");
}

/**
 * The password of the first line that fits; undefined when none does. Format of the file (`host:port:dbname:user:password`,
 * `*` for any, backslash before `:` and `\\`): https://www.postgresql.org/docs/15/libpq-pgpass.html
 */
export function findPassword(
  text: string,
  wanted: { host: string; port: string; dbname: string; user: string },
): string | undefined {
  const { host, port, dbname, user } = wanted;
  const plain = (field: string) => field.replace(/\\(.)/g, "$1");
  for (const line of text.split(/\r?\n/)) {
    const fields = line.startsWith("#") ? null : PASSWORD_LINE.exec(line)?.slice(1);
    if (!fields) continue;
    const fits = [host, port, dbname, user].every((value, i) => fields[i] === "*" || plain(fields[i] ?? "") === value);
    if (fits) return plain(fields[4] ?? "");
  }
  return undefined;
}

const PASSWORD_LINE = new RegExp(`^${"((?:\\\\.|[^:\\\\])*):".repeat(4)}(.*)$`);
