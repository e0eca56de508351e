/** What pgBackRest said when the repository failed it: in one line, and what to do about it. */

/** Lines of the error and its continuation, which pgBackRest indents. */
const ERROR = /ERROR: (?=\[\d+\])/;

/** Of an error's own text and of the sections that follow a refused HTTP request. */
const MOST_LINES = 3;

/**
 * `[039]: HTTP request failed with 403 (Forbidden): AccessDenied, GET /bucket/…`: pgBackRest's last error without the
 * headers that it prints with it; what stood there last when it printed none.
 */
export function describeError(output: string): string {
  const lines = output.split("\n").filter((line) => line.trim() !== "");
  const at = lines.findLastIndex((line) => ERROR.test(line));
  if (at < 0) return lines.slice(-MOST_LINES).join(" | ") || "it said nothing";
  const isContinuation = (line: string) => /^\s/.test(line);
  const end = lines.findIndex((line, index) => index > at && !isContinuation(line));
  const text = describeText(lines.slice(at, end < 0 ? undefined : end).join("\n"));
  if (!/unable to find a valid repository/.test(text)) return text;
  // Which one and why stands in a warning before it.
  const warning = lines.findLastIndex((line, index) => index < at && /WARN: repo\d/.test(line));
  return warning < 0 ? text : `${text}: ${describeText(lines.slice(warning, at).join("\n"))}`;
}

/** The same for an error's text alone, as `info --output=json` has it. */
export function describeText(text: string): string {
  let section = "";
  const said: string[] = [];
  const http: string[] = [];
  for (const line of text.split("\n").map((each) => each.replace(/^.*?(ERROR|WARN): (?=\[\d+\]|repo\d)/, "").trim())) {
    const name = /^\*\*\* (.*) \*\*\*:$/.exec(line)?.[1];
    if (name !== undefined) section = name;
    else if (section === "" && !line.startsWith("HINT:")) said.push(line);
    else if (section === "Path/Query") http.push(shortRequest(line));
    else if (section === "Response Content") http.unshift(...(/<Code>(.*?)<\/Code>/.exec(line)?.slice(1) ?? []));
  }
  return [...new Set(said)].slice(0, MOST_LINES).concat(http.join(", ")).join(" ").trim();
}

/** Without what a shared access signature adds to it. */
const shortRequest = (line: string) => line.replace(/[?&](s[a-z]{1,2}|sig)=[^&]*/g, "").slice(0, 160);

const HINTS: readonly [pattern: RegExp, hint: string][] = [
  [
    /\bcertificate\b/,
    "the store's certificate must be of an authority in repo-storage-ca-file (or the system's), and name the host that is connected to",
  ],
  [
    /HTTP request failed with 40[13]/,
    "the store refuses this credential: it may be wrong or expired, or lack the right to list and read the repository",
  ],
  [
    /HTTP request failed with 404/,
    "the store has no such bucket or container: check its name, the endpoint and the region",
  ],
  [
    /HostConnectError|unable to connect to|unable to get address for/,
    "the repository's host cannot be reached: check endpoint and port, and whether the store is up, then try again",
  ],
  [
    /\[5\d\d\] |HTTP request failed with 5\d\d/,
    "the store has trouble of its own, or wants fewer requests (503): try again later, or with a lower --process-max",
  ],
  [
    /timeout after \d+ ?ms|unexpected eof|Connection reset|TLS error|HTTP content/i,
    "the connection to the store stalls or breaks: try again; io-timeout in pgbackrest.conf is how long pgBackRest waits for an answer",
  ],
];

/** What to do about it, when the store or the way to it is the cause. */
export function repositoryHint(text: string): string | undefined {
  return HINTS.find(([pattern]) => pattern.test(text))?.[1];
}
