/** Who may do what. */

import { OURS, OWNER, type Question } from "./question.ts";

interface Grantable {
  name: string;
  key: string;
  acl: string;
  rows: readonly string[];
  object: string;
  from: string;
}

const GRANTABLE: readonly Grantable[] = [
  {
    name: "schemas",
    key: "quote_ident(n.nspname)",
    acl: "n.nspacl",
    rows: ["n"],
    object: "'pg_namespace'::regclass, n.oid",
    from: `pg_namespace AS n WHERE ${OURS("n")}`,
  },
  {
    name: "relations",
    key: "format('%I.%I', n.nspname, c.relname)",
    acl: "c.relacl",
    rows: ["c", "n"],
    object: "'pg_class'::regclass, c.oid",
    from: `pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE ${OURS("n")}`,
  },
  {
    name: "columns",
    key: "format('%I.%I.%I', n.nspname, c.relname, a.attname)",
    acl: "a.attacl",
    rows: ["a", "c", "n"],
    object: "'pg_class'::regclass, c.oid",
    from: `pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE NOT a.attisdropped AND ${OURS("n")}`,
  },
  {
    name: "functions",
    key: "format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))",
    acl: "p.proacl",
    rows: ["p", "n"],
    object: "'pg_proc'::regclass, p.oid",
    from: `pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE ${OURS("n")}`,
  },
  {
    name: "types",
    key: "format('%I.%I', n.nspname, t.typname)",
    acl: "t.typacl",
    rows: ["t", "n"],
    object: "'pg_type'::regclass, t.oid",
    from: `pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE ${OURS("n")}`,
  },
  {
    name: "languages",
    key: "quote_ident(l.lanname)",
    acl: "l.lanacl",
    rows: ["l"],
    object: "'pg_language'::regclass, l.oid",
    from: "pg_language AS l WHERE true",
  },
  {
    name: "foreign-data wrappers",
    key: "quote_ident(w.fdwname)",
    acl: "w.fdwacl",
    rows: ["w"],
    object: "'pg_foreign_data_wrapper'::regclass, w.oid",
    from: "pg_foreign_data_wrapper AS w WHERE true",
  },
  {
    name: "foreign servers",
    key: "quote_ident(s.srvname)",
    acl: "s.srvacl",
    rows: ["s"],
    object: "'pg_foreign_server'::regclass, s.oid",
    from: "pg_foreign_server AS s WHERE true",
  },
  {
    name: "large objects",
    key: "m.oid::text",
    acl: "m.lomacl",
    rows: ["m"],
    object: "'pg_largeobject'::regclass, m.oid",
    from: "pg_largeobject_metadata AS m WHERE true",
  },
];

export const GRANT_QUESTIONS: readonly Question[] = [
  ...GRANTABLE.map(
    ({ name, key, acl, rows, object, from }): Question => ({
      name: `grants on ${name}`,
      key,
      line: acl,
      rows,
      object,
      from: `${from} AND ${acl} IS NOT NULL`,
    }),
  ),
  {
    name: "default privileges",
    key: `format('%s by %I in %s', d.defaclobjtype, ${OWNER("d.defaclrole")}, coalesce(quote_ident(n.nspname), 'every schema'))`,
    line: "d.defaclacl",
    rows: ["d", "n"],
    object: "'pg_default_acl'::regclass, d.oid",
    from: "pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace",
  },
];
