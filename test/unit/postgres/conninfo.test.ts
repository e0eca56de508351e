import { describe, expect, test } from "vitest";
import { describeConninfo, findPassword, formatConninfo, parseConninfo } from "../../../lib/postgres/conninfo.ts";
import { oddName, randomNumbers } from "../../fixtures/odd-names.ts";

describe("what Patroni appends to post_bootstrap", () => {
  test.each([
    {
      case: "default",
      text: "dbname=postgres user=postgres host=localhost port=15501",
      parsed: { dbname: "postgres", user: "postgres", host: "localhost", port: "15501" },
    },
    {
      case: "use_unix_socket",
      text: "dbname=postgres user=postgres host=/run/postgresql/sock port=15503 sslmode=prefer",
      parsed: { dbname: "postgres", user: "postgres", host: "/run/postgresql/sock", port: "15503", sslmode: "prefer" },
    },
    {
      case: "no authentication.superuser",
      text: "dbname=postgres host=localhost port=15503",
      parsed: { dbname: "postgres", host: "localhost", port: "15503" },
    },
    {
      case: "odd names, escaped as format_dsn does",
      text: "dbname=my\\ data\\ base user=o\\'brien host=/tmp/a\\\\b port=5432",
      parsed: { dbname: "my data base", user: "o'brien", host: "/tmp/a\\b", port: "5432" },
    },
    {
      case: "certificates of the superuser",
      text: "dbname=postgres host=h port=1 sslmode=verify-full sslcert=/c sslkey=/k sslpassword=s sslrootcert=/r sslcrl=/l",
      parsed: {
        dbname: "postgres",
        host: "h",
        port: "1",
        sslmode: "verify-full",
        sslcert: "/c",
        sslkey: "/k",
        sslpassword: "s",
        sslrootcert: "/r",
        sslcrl: "/l",
      },
    },
  ])("$case", ({ text, parsed }) => {
    expect(parseConninfo(text)).toEqual(parsed);
  });
});

describe("keyword/value strings, as libpq reads them", () => {
  test.each([
    { text: "", parsed: {} },
    { text: "   ", parsed: {} },
    { text: "host = localhost   port\t=\n5432", parsed: { host: "localhost", port: "5432" } },
    { text: "dbname='a b' user='it\\'s' password='\\\\'", parsed: { dbname: "a b", user: "it's", password: "\\" } },
    { text: "user='' dbname=x", parsed: { user: "", dbname: "x" } },
    { text: "user= dbname=x", parsed: { user: "dbname=x" } },
    { text: "dbname=a=b", parsed: { dbname: "a=b" } },
    { text: "dbname=a'b", parsed: { dbname: "a'b" } },
    { text: "dbname='a'user=b", parsed: { dbname: "a", user: "b" } },
    { text: "dbname=a dbname=b", parsed: { dbname: "b" } },
    { text: "dbname=a\\", parsed: { dbname: "a" } },
    { text: "dbname=trailing\\ ", parsed: { dbname: "trailing " } },
    { text: "dbname=no\u00a0break", parsed: { dbname: "no\u00a0break" } },
    { text: "dbname=données", parsed: { dbname: "données" } },
    { text: "options='-c search_path=x -c geqo=off'", parsed: { options: "-c search_path=x -c geqo=off" } },
  ])("$text", ({ text, parsed }) => {
    expect(parseConninfo(text)).toEqual(parsed);
  });
});

describe("connection URIs", () => {
  test.each([
    { text: "postgresql://", parsed: {} },
    { text: "postgres://localhost", parsed: { host: "localhost" } },
    { text: "postgresql://localhost:5433/mydb", parsed: { host: "localhost", port: "5433", dbname: "mydb" } },
    { text: "postgresql://user@localhost", parsed: { user: "user", host: "localhost" } },
    {
      text: "postgresql://user:se%40cr%3At@localhost/otherdb?connect_timeout=10&application_name=my%20app",
      parsed: {
        user: "user",
        password: "se@cr:t",
        host: "localhost",
        dbname: "otherdb",
        connect_timeout: "10",
        application_name: "my app",
      },
    },
    {
      text: "postgresql://host1:123,host2:456/somedb?target_session_attrs=any",
      parsed: { host: "host1,host2", port: "123,456", dbname: "somedb", target_session_attrs: "any" },
    },
    {
      text: "postgresql:///mydb?host=localhost&port=5433",
      parsed: { dbname: "mydb", host: "localhost", port: "5433" },
    },
    {
      text: "postgresql://[2001:db8::1234]:5432/database",
      parsed: { host: "2001:db8::1234", port: "5432", dbname: "database" },
    },
    {
      text: "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
      parsed: { host: "/var/lib/postgresql", dbname: "dbname" },
    },
    { text: " postgresql://h/d ", parsed: { host: "h", dbname: "d" } },
  ])("$text", ({ text, parsed }) => {
    expect(parseConninfo(text)).toEqual(parsed);
  });
});

describe("errors say where, and never show a value", () => {
  const secret = "hunter2";

  test.each([
    { text: secret, says: 'expected "keyword=value" at character 1 of the connection string' },
    { text: `host=h ${secret}`, says: "at character 8" },
    { text: `=${secret}`, says: "at character 1" },
    { text: `password='${secret}`, says: 'the quoted value of "password" is not closed' },
    { text: `HOST=${secret}`, says: '"HOST" is not a connection parameter of libpq' },
    { text: `pasword=${secret}`, says: '"pasword" is not a connection parameter of libpq' },
    { text: `postgresql://u:${secret}@h/d?hots=x`, says: '"hots" is not a connection parameter of libpq' },
    { text: `postgresql://u:${secret}@h/d?x`, says: "a parameter of the connection URI has no value" },
    { text: `postgresql://u:${secret}%zz@h/d`, says: "the connection URI holds an invalid percent escape" },
    { text: `postgresql://u:${secret}@h:port/d`, says: "the host of the connection URI is not valid" },
  ])("$says", ({ text, says }) => {
    let message = "";
    try {
      parseConninfo(text);
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toContain(says);
    expect(message).not.toContain(secret);
  });
});

describe("formatConninfo", () => {
  test("quotes every value", () => {
    expect(formatConninfo({ host: "/run/o'dir", dbname: "a b\\c", user: "" })).toBe(
      "host='/run/o\\'dir' dbname='a b\\\\c' user=''",
    );
  });

  test("whatever a name holds, it comes back", () => {
    const random = randomNumbers(7);
    for (let round = 0; round < 500; round++) {
      const conninfo = {
        dbname: oddName(random),
        user: oddName(random),
        host: oddName(random),
        password: oddName(random),
      };
      expect(parseConninfo(formatConninfo(conninfo))).toEqual(conninfo);
    }
  });

  test("whatever a name holds, it comes back from a URI too", () => {
    const random = randomNumbers(11);
    for (let round = 0; round < 500; round++) {
      const [user, password, dbname] = [oddName(random), oddName(random), oddName(random)];
      const uri = `postgresql://${[user, password].map(encodeURIComponent).join(":")}@h/${encodeURIComponent(dbname)}`;
      expect(parseConninfo(uri)).toEqual({ user, password, host: "h", dbname });
    }
  });

  test("whatever a name holds, it comes back from Patroni's escaping too", () => {
    const random = randomNumbers(13);
    for (let round = 0; round < 500; round++) {
      // Only a space, quote and backslash are escaped by format_dsn; a name with a tab or newline would be cut.
      const dbname = oddName(random).replace(/[\t\n\v\f\r]/g, "_");
      expect(parseConninfo(`dbname=${dbname.replace(/['\\ ]/g, "\\$&")} port=1`)).toEqual({ dbname, port: "1" });
    }
  });
});

describe("describeConninfo", () => {
  test("names the place and the user, and nothing secret", () => {
    const conninfo = parseConninfo(
      "host=h port=1 dbname=d user=u password=hunter2 sslpassword=hunter2 passfile=/p options='-c x=hunter2'",
    );
    expect(describeConninfo(conninfo)).toBe("host=h port=1 dbname=d user=u");
  });
});

describe("findPassword", () => {
  const wanted = { host: "localhost", port: "5432", dbname: "postgres", user: "postgres" };

  test.each([
    { case: "the whole line", text: "localhost:5432:postgres:postgres:pw", password: "pw" },
    { case: "Patroni's file, without a newline", text: "localhost:5432:*:postgres:p\\:w\\\\", password: "p:w\\" },
    { case: "the first line that fits", text: "other:*:*:*:no\n*:*:*:*:yes\nlocalhost:*:*:*:late\n", password: "yes" },
    { case: "a comment is no line", text: "#localhost:5432:postgres:postgres:no\n*:*:*:*:yes", password: "yes" },
    { case: "an escaped star is a name", text: "\\*:*:*:*:no", password: undefined },
    { case: "another port", text: "localhost:5433:*:*:no", password: undefined },
    { case: "too few fields", text: "localhost:5432:postgres:postgres", password: undefined },
    { case: "an empty password", text: "*:*:*:*:", password: "" },
    { case: "Windows line ends", text: "*:*:*:*:pw\r\n", password: "pw" },
    { case: "an empty file", text: "", password: undefined },
  ])("$case", ({ text, password }) => {
    expect(findPassword(text, wanted)).toBe(password);
  });

  test("odd names are escaped in the file", () => {
    const odd = { host: "/run/a:b", port: "5432", dbname: "d\\b", user: "o'brien" };
    expect(findPassword("/run/a\\:b:5432:d\\\\b:o'brien:pw", odd)).toBe("pw");
  });
});
