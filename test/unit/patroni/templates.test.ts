import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { placeholdersOf, renderTemplate, shellWord } from "../../../lib/patroni/templates.ts";

const directory = fileURLToPath(new URL("../../../patroni-templates/", import.meta.url));
const files = readdirSync(directory).filter((file) => file.endsWith(".yml"));
const read = (file: string) => readFileSync(directory + file, "utf8");

describe("filling a template", () => {
  test("comments stay, and a value stays a string for Patroni's YAML 1.1 whatever it looks like", () => {
    const text = renderTemplate('# why\nscope: "{{scope}}" # here\nport: 5432\n', { scope: "on" });
    expect(text).toBe('# why\nscope: "on" # here\nport: 5432\n');
    expect(parse(text, { version: "1.1" })).toEqual({ scope: "on", port: 5432 });
  });

  test.each(['a"b', "a: b # c", "line\nbreak", "back\\slash", "{{other}}", "ü €", "'", "- x", "%d"])(
    "the value %j cannot change the structure",
    (value) => {
      expect(parse(renderTemplate('a: "<{{x}}>"\nb: 1\n', { x: value }))).toEqual({ a: `<${value}>`, b: 1 });
    },
  );

  test("long values are not folded", () => {
    const long = "word ".repeat(60).trim();
    expect(renderTemplate('a: "{{x}}"\n', { x: long })).toBe(`a: "${long}"\n`);
  });

  test("the number filter makes a number, and nothing else", () => {
    expect(renderTemplate('uid: "{{uid|number}}" # why\n', { uid: "999" })).toBe("uid: 999 # why\n");
    for (const uid of ["", "postgres", "1.5", "0x10", "-1", "9 9"]) {
      expect(() => renderTemplate('uid: "{{uid|number}}"\n', { uid })).toThrow("must be a whole number");
    }
    expect(() => renderTemplate('uid: "u{{uid|number}}"\n', { uid: 1 })).toThrow("must be a whole number");
  });

  test("every problem is named at once", () => {
    const template = 'a: "{{gone}}"\nb: {{bare}}\nc: plain {{name}}\nd: "{{x|upper}}"\n';
    expect(() => renderTemplate(template.replace("b: {{bare}}\n", ""), { x: "1", spare: "2" })).toThrow(
      /placeholder "gone" has no value.*plain \{\{name\}\} is not inside a double-quoted value.*"upper" is not a filter.*"spare" has no placeholder/,
    );
  });

  test("a value without a placeholder is allowed in an operator's own template only", () => {
    expect(() => renderTemplate('a: "{{x}}"\n', { x: 1, y: 2 })).toThrow('"y"');
    expect(renderTemplate('a: "{{x}}"\n', { x: 1, y: 2 }, { unusedAllowed: true })).toBe('a: "1"\n');
  });

  test("what is no YAML is refused", () => {
    expect(() => renderTemplate('a: "{{x}}\nb: [', { x: "1" })).toThrow(/cannot be filled/);
  });

  test("names that every object has are no values", () => {
    expect(() => renderTemplate('a: "{{constructor}}"\n', {})).toThrow('"constructor" has no value');
  });
});

test.each([
  ["plain", "plain"],
  ["/opt/x-1.mjs", "/opt/x-1.mjs"],
  ["2026-11-22 10:00:00+00", "'2026-11-22 10:00:00+00'"],
  ["it's", `'it'"'"'s'`],
  ["", "''"],
  ["$HOME", "'$HOME'"],
])("the word filter makes one word of %j", (text, word) => {
  expect(shellWord(text)).toBe(word);
  expect(parse(renderTemplate('a: "run {{x|word}}"\n', { x: text }))).toEqual({ a: `run ${word}` });
});

describe.each(files)("%s", (file) => {
  const names = placeholdersOf(read(file));
  const rendered = renderTemplate(read(file), Object.fromEntries(names.map((name) => [name, `<${name} "x"'>`])));

  test("can be filled, and nothing is left over", () => {
    expect(names.length).toBeGreaterThan(0);
    expect(rendered.replace(/#.*$/gm, "")).not.toMatch(/\{\{|\}\}/);
  });

  test("says for every setting that is not obvious why", () => {
    expect(read(file)).toMatch(/^# .+\n(#.*\n)+/);
  });

  test("means the same in YAML 1.1, which Patroni reads", () => {
    expect(parse(rendered, { version: "1.1" })).toEqual(parse(rendered, { version: "1.2" }));
  });

  const config = parse(rendered, { version: "1.1" });
  const { bootstrap } = config;

  test("has bootstrap.dcs, with limits that Patroni 3.2 and later accept", () => {
    const { loop_wait, retry_timeout, ttl } = bootstrap.dcs;
    expect(loop_wait).toBeGreaterThanOrEqual(2);
    expect(retry_timeout).toBeGreaterThanOrEqual(3);
    expect(ttl).toBeGreaterThanOrEqual(20);
    expect(loop_wait + 2 * retry_timeout).toBeLessThanOrEqual(ttl);
  });

  test.runIf(file !== "source.yml")("names a method that exists, with a command, and a post_bootstrap", () => {
    expect(bootstrap[bootstrap.method].command).toMatch(/bootstrap/);
    expect(bootstrap.post_bootstrap).toMatch(/post-bootstrap/);
    for (const key of ["recovery_conf", "keep_existing_recovery_conf", "no_params"]) {
      expect(bootstrap[bootstrap.method]).not.toHaveProperty(key);
    }
  });

  test("keeps no passwords and listens nowhere by itself", () => {
    expect(read(file).replace(/#.*$/gm, "")).not.toMatch(/password: (?!"\{\{)|0\.0\.0\.0|listen: "?\*/);
  });
});

test("a restore test archives nothing, and only the user of its socket directory gets in", () => {
  const { postgresql, tags } = parse(read("restore-test.yml"), { version: "1.1" });
  expect(postgresql.parameters).toMatchObject({ archive_mode: "off", archive_command: "", fsync: "off" });
  expect(postgresql).toMatchObject({ use_unix_socket: true, use_unix_socket_repl: true });
  expect(postgresql.pg_hba).toEqual(["local all all trust"]);
  expect(tags.nofailover).toBe(false);
});

test("a clone archives to its own stanza and restores from the source's", () => {
  const { bootstrap } = parse(read("clone.yml"), { version: "1.1" });
  const { archive_command, archive_mode } = bootstrap.dcs.postgresql.parameters;
  expect(archive_mode).toBe("on");
  expect(archive_command).toContain("--stanza={{stanza|word}}");
  expect(archive_command).not.toContain("source");
  expect(bootstrap.patroni_restore.command).toMatch(/--detach=clone .*--stanza=\{\{source_stanza\|word\}\}/);
});

test("only the form for Patroni >= 3.2 has settings as keys of the method", () => {
  const method = (file: string) => parse(read(file), { version: "1.1" }).bootstrap.patroni_restore;
  expect(Object.keys(method("bootstrap-3.0.yml"))).toEqual(["command"]);
  expect(Object.keys(method("bootstrap-3.2.yml"))).toEqual(["command", "config", "stanza", "restore_target_time"]);
});

describe("the image snippet", () => {
  const image = (file: string) => read(`image/${file}`);

  test("copies scripts that this project builds", () => {
    const scripts = [...image("Dockerfile").matchAll(/dist\/([\w-]+)\.mjs/g)].map((match) => match[1]);
    expect(scripts).toEqual([
      "bootstrap",
      "post-bootstrap",
      "guard",
      "preflight",
      "verify",
      "restore-test",
      "backup-api",
      "fleet",
      "mark",
    ]);
  });

  test("runs guard before Patroni, in the container and under systemd", () => {
    expect(image("entrypoint.sh")).toMatch(/^node .*guard\.mjs" --datadir "\$PGDATA"$[\s\S]*^exec patroni "\$@"$/m);
    expect(image("patroni-restore.conf")).toMatch(/^ExecStartPre=\S+node \S+guard\.mjs --datadir \S+/m);
  });

  test("names no variable PATRONI_…, which Patroni would take for a setting of its own", () => {
    expect(image("entrypoint.sh") + image("Dockerfile")).not.toMatch(/\bPATRONI_\w+/);
  });
});

test("what begins with a dollar sign is a Go template's own, quoted or not, and stays", () => {
  const template = 'summary: "{{scope}}: {{ $labels.service }} {{$value | humanizeDuration}}"\nplain: a {{ $value }}\n';
  expect(placeholdersOf(template)).toEqual(["scope"]);
  expect(renderTemplate(template, { scope: "shop" })).toBe(template.replace("{{scope}}", "shop"));
});
