/** Reads postgres.bki, from which initdb makes the catalogs. https://www.postgresql.org/docs/15/bki-format.html */

export interface BuiltinCatalog {
  /** Columns that tell its rows apart. */
  key: string[];
  /** The one that holds an OID. */
  first: string;
  /** What a row is called, by its key's values with a space between. */
  rows: Map<string, string>;
}

export type BuiltinRows = Map<string, BuiltinCatalog>;

const KEYS: Readonly<Record<string, readonly string[]>> = {
  pg_aggregate: ["aggfnoid"],
  pg_attribute: ["attrelid", "attnum"],
  pg_range: ["rngtypid"],
};

/** From here on nothing is pinned. */
const FIRST_UNPINNED = 12_000;

/** May be dropped or changed like a user's own: template1, and the schema public. */
const isDroppable = (catalog: string, oid: string) =>
  catalog === "pg_database" || (catalog === "pg_namespace" && oid === "2200");

/** Null when the file is of another major version, of none, or written in another way than this reads. */
export function parseBki(text: string, majorVersion: number): BuiltinRows | null {
  if (!text.startsWith(`# PostgreSQL ${majorVersion}\n`)) return null;
  const rows: BuiltinRows = new Map();
  const add = (catalog: string, key: readonly string[], values: readonly string[], label: string) => {
    if (!values.every((value) => /^\d+$/.test(value)) || Number(values[0]) >= FIRST_UNPINNED) return;
    if (isDroppable(catalog, values[0] as string)) return;
    const entry = rows.get(catalog) ?? { key: [...key], first: key[0] as string, rows: new Map<string, string>() };
    rows.set(catalog, entry);
    entry.rows.set(values.join(" "), label);
  };
  let catalog = "";
  let columns: string[] = [];
  const tokens = tokensOf(text.slice(text.indexOf("\n")));
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i] === "create") {
      catalog = tokens[i + 1] as string;
      const oid = tokens[i + 2] as string;
      const open = tokens.indexOf("(", i);
      const close = tokens.indexOf(")", open);
      columns = columnsOf(tokens.slice(open + 1, close));
      const options = tokens.slice(i + 3, open);
      const rowType = options.indexOf("rowtype_oid");
      add("pg_class", ["oid"], [oid], catalog);
      if (rowType >= 0) add("pg_type", ["oid"], [options[rowType + 1] as string], catalog);
      for (const [index, column] of columns.entries()) {
        add("pg_attribute", KEYS.pg_attribute as string[], [oid, String(index + 1)], `${catalog}.${column}`);
      }
      i = close;
    } else if (tokens[i] === "insert" && tokens[i + 1] === "(") {
      const close = tokens.indexOf(")", i);
      const values = tokens.slice(i + 2, close);
      const key = columns.includes("oid") ? ["oid"] : KEYS[catalog];
      if (key !== undefined) {
        if (values.length !== columns.length) return null;
        const keyed = key.map((column) => values[columns.indexOf(column)] as string);
        const name = columns.findIndex((column) => /name$/.test(column));
        add(catalog, key, keyed, unquote(name < 0 ? keyed.join(" ") : (values[name] as string)));
      }
      i = close;
    } else if (tokens[i] === "declare") {
      const on = tokens.indexOf("on", i);
      const declared = tokens.slice(i + 1, on);
      if (declared[0] === "toast") {
        const [, table, index] = declared as [string, string, string];
        add("pg_class", ["oid"], [table], `TOAST table of ${tokens[on + 1]}`);
        add("pg_class", ["oid"], [index], `index of the TOAST table of ${tokens[on + 1]}`);
      } else {
        const oid = declared.at(-1) as string;
        add("pg_class", ["oid"], [oid], declared.at(-2) as string);
        add("pg_index", ["indexrelid"], [oid], declared.at(-2) as string);
      }
      i = on;
    }
  }
  return rows;
}

/** `'it''s'` and words; parentheses and commas stand alone unless quoted. */
const tokensOf = (text: string): string[] => text.match(/'(?:[^']|'')*'|[(),]|[^\s'(),]+/g) ?? [];

const unquote = (token: string) => (token.startsWith("'") ? token.slice(1, -1).replaceAll("''", "'") : token);

/** `oid = oid , proname = name FORCE NOT NULL , …`: the word before each first `=`. */
function columnsOf(tokens: readonly string[]): string[] {
  return tokens.filter((_, i) => tokens[i + 1] === "=");
}
