import { describe, expect, test } from "vitest";
import { describeError, describeText, repositoryHint } from "../../../lib/restore/repository-error.ts";

/** pgBackRest 2.45 on Ceph, as restore and archive-get print it. */
const FORBIDDEN = `ERROR: [042]: unable to get 000000010000000000000002:
       repo1: 15-1/0000000100000000/000000010000000000000002-81cf.lz4 [ProtocolError] HTTP request failed with 403 (Forbidden):
       *** Path/Query ***:
       GET /pgbackrest/test/archive/svc/15-1/0000000100000000/000000010000000000000002-81cf.lz4
       *** Request Headers ***:
       authorization: <redacted>
       content-length: 0
       *** Response Headers ***:
       content-type: application/xml
       *** Response Content ***:
       <?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>
`;

const UNREACHABLE = `WARN: repo1: [HostConnectError] unable to load info file '/test/archive.info' or '/test/archive.info.copy':
      HostConnectError: unable to connect to 'localhost:26196': [111] Connection refused
      HostConnectError: unable to connect to 'localhost:26196': [111] Connection refused
      HINT: archive.info cannot be opened but is required to push/get WAL segments.
ERROR: [103]: unable to find a valid repository
`;

describe("an error in one line", () => {
  test("of a refused request: code, request and the store's own word, without its headers", () => {
    expect(describeError(FORBIDDEN)).toBe(
      "[042]: unable to get 000000010000000000000002: repo1: 15-1/0000000100000000/000000010000000000000002-81cf.lz4 " +
        "[ProtocolError] HTTP request failed with 403 (Forbidden): AccessDenied, " +
        "GET /pgbackrest/test/archive/svc/15-1/0000000100000000/000000010000000000000002-81cf.lz4",
    );
  });

  test("of a repository that is out of reach: why, from the warning before it", () => {
    expect(describeError(UNREACHABLE)).toBe(
      "[103]: unable to find a valid repository: repo1: [HostConnectError] unable to load info file '/test/archive.info' " +
        "or '/test/archive.info.copy': HostConnectError: unable to connect to 'localhost:26196': [111] Connection refused",
    );
  });

  test("the last one counts, and what follows it is not part of it", () => {
    const log = [
      "2026-11-23 18:23:08.000 P00  ERROR: [042]: an earlier one",
      "2026-11-23 18:23:09.000 P00  ERROR: [049]: raised from local-2 protocol: unable to connect to 'localhost:1': [111] Connection refused",
      "                                    [HostConnectError] on retry after 0ms",
      "2026-11-23 18:23:09.162 P00   INFO: restore command end: aborted with exception [049]",
    ];
    expect(describeError(log.join("\n"))).toBe(
      "[049]: raised from local-2 protocol: unable to connect to 'localhost:1': [111] Connection refused " +
        "[HostConnectError] on retry after 0ms",
    );
  });

  test("without an error, the last lines; without any, that it said nothing", () => {
    expect(describeError("one\ntwo\n")).toBe("one | two");
    expect(describeError("")).toBe("it said nothing");
  });

  test("a shared access signature is not repeated", () => {
    const text = `HTTP request failed with 403 (x):\n*** Path/Query ***:\nGET /a/c/x?comp=list&prefix=p&se=2026&sig=<redacted>&sp=rl&sr=c`;
    expect(describeText(text)).toBe("HTTP request failed with 403 (x): GET /a/c/x?comp=list&prefix=p");
  });
});

test.each([
  ["[CryptoError] unable to verify certificate presented by 'localhost:1': [19] self-signed", /repo-storage-ca-file/],
  ["HTTP request failed with 403 (Forbidden): InvalidAccessKeyId", /credential/],
  ["HTTP request failed with 404 (Not Found): NoSuchBucket", /bucket or container/],
  ["[HostConnectError] unable to get address for 'store.invalid': [-2] Name or service not known", /cannot be reached/],
  ["[103]: unable to find a valid repository: unable to connect to 'localhost:1'", /cannot be reached/],
  ["[101]: raised from local-1 protocol: [503] Service Unavailable", /fewer requests/],
  ["[042]: timeout after 3000ms waiting for read from 'localhost:1'", /io-timeout/],
  ["[ServiceError] TLS error [1:167772454] unexpected eof while reading", /io-timeout/],
])("%s has a hint", (text, hint) => {
  expect(repositoryHint(text)).toMatch(hint);
});

test("what has nothing to do with a store has no hint of it", () => {
  expect(repositoryHint("[055]: unable to open missing file '/repo/backup/x' for read")).toBeUndefined();
  expect(repositoryHint("[095]: unable to flush")).toBeUndefined();
});
