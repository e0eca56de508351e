/** Schemas, relations and what belongs to them. */

import { OURS, OWNER, type Question } from "./question.ts";

const RELATION = "format('%I.%I', n.nspname, c.relname)";
const CLASS = "'pg_class'::regclass";

/** Row versions of a relation's columns and their defaults. */
const COLUMN_VERSIONS = `
  (SELECT md5(string_agg(a.xmin::text || a.ctid::text || coalesce(d.xmin::text || d.ctid::text, ''), ' ' ORDER BY a.attnum))
     FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0)`;

export const RELATION_QUESTIONS: readonly Question[] = [
  {
    name: "schemas",
    key: "quote_ident(n.nspname)",
    line: OWNER("n.nspowner"),
    rows: ["n"],
    object: "'pg_namespace'::regclass, n.oid",
    from: `pg_namespace AS n WHERE ${OURS("n")}`,
  },
  {
    name: "tables",
    key: RELATION,
    line: `c.relkind, c.relpersistence, ${OWNER("c.relowner")}, a.amname, t.spcname, c.reloptions, c.relrowsecurity,
           c.relforcerowsecurity, c.relreplident, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
           ARRAY(SELECT format('%I.%I', pn.nspname, p.relname)
                   FROM pg_inherits AS i JOIN pg_class AS p ON p.oid = i.inhparent
                   JOIN pg_namespace AS pn ON pn.oid = p.relnamespace
                  WHERE i.inhrelid = c.oid ORDER BY i.inhseqno)`,
    rows: ["c", "n", "t"],
    // A parent's name is part of the line.
    more: `${COLUMN_VERSIONS},
           (SELECT string_agg(i.xmin::text || i.ctid::text || p.xmin::text || p.ctid::text, ' ' ORDER BY i.inhseqno)
              FROM pg_inherits AS i JOIN pg_class AS p ON p.oid = i.inhparent WHERE i.inhrelid = c.oid)`,
    relation: "c.oid",
    object: `${CLASS}, c.oid`,
    from: `pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
           LEFT JOIN pg_am AS a ON a.oid = c.relam LEFT JOIN pg_tablespace AS t ON t.oid = c.reltablespace
           WHERE c.relkind IN ('r', 'p', 'f') AND ${OURS("n")}`,
  },
  {
    name: "columns",
    key: RELATION,
    line: `ARRAY(
             SELECT ROW(a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                        pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attstorage,
                        to_jsonb(a) ->> 'attcompression', l.collname, a.attoptions, a.attislocal, a.attinhcount)::text
               FROM pg_attribute AS a
               LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
               LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attnum)`,
    rows: ["c", "n"],
    more: COLUMN_VERSIONS,
    relation: "c.oid",
    object: `${CLASS}, c.oid`,
    from: `pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND ${OURS("n")}`,
  },
  {
    name: "constraints",
    key: `format('%I on %I.%I', k.conname, n.nspname, coalesce(c.relname, t.typname, '?'))`,
    line: "k.contype, k.convalidated, pg_get_constraintdef(k.oid)",
    rows: ["k", "n", "c", "t"],
    relation: "k.conrelid",
    object: "'pg_constraint'::regclass, k.oid",
    from: `pg_constraint AS k JOIN pg_namespace AS n ON n.oid = k.connamespace
           LEFT JOIN pg_class AS c ON c.oid = k.conrelid LEFT JOIN pg_type AS t ON t.oid = k.contypid
           WHERE ${OURS("n")}`,
  },
  {
    name: "indexes",
    key: RELATION,
    line: `pg_get_indexdef(c.oid), t.spcname, i.indisvalid, i.indisready, i.indisclustered, i.indisreplident,
           i.indisunique, i.indisprimary, i.indimmediate`,
    rows: ["i", "c", "n", "t", "r"],
    relation: "i.indrelid",
    object: `${CLASS}, c.oid`,
    from: `pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
           JOIN pg_class AS r ON r.oid = i.indrelid
           LEFT JOIN pg_tablespace AS t ON t.oid = c.reltablespace WHERE ${OURS("n")}`,
  },
  {
    name: "views",
    key: RELATION,
    line: `c.relkind, ${OWNER("c.relowner")}, c.reloptions, c.relispopulated, pg_get_viewdef(c.oid)`,
    rows: ["c", "n", "w"],
    relation: "c.oid",
    query: ["'pg_rewrite'::regclass", "w.oid"],
    object: `${CLASS}, c.oid`,
    from: `pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
           LEFT JOIN pg_rewrite AS w ON w.ev_class = c.oid AND w.rulename = '_RETURN'
           WHERE c.relkind IN ('v', 'm') AND ${OURS("n")}`,
  },
  {
    name: "triggers",
    key: `format('%I on %I.%I', t.tgname, n.nspname, c.relname)`,
    line: "t.tgenabled, pg_get_triggerdef(t.oid)",
    rows: ["t", "n", "c"],
    relation: "t.tgrelid",
    object: "'pg_trigger'::regclass, t.oid",
    from: `pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE NOT t.tgisinternal AND ${OURS("n")}`,
  },
  {
    name: "internal triggers",
    // Those of constraints: their own names hold OIDs, which a physical restore keeps.
    key: `format('%I on %I.%I', t.tgname, n.nspname, c.relname)`,
    line: "t.tgenabled, t.tgtype, t.tgfoid::regproc, t.tgdeferrable, t.tginitdeferred",
    rows: ["t", "n", "c"],
    object: "'pg_trigger'::regclass, t.oid",
    from: `pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE t.tgisinternal AND ${OURS("n")}`,
  },
  {
    name: "rules",
    key: `format('%I on %I.%I', r.rulename, n.nspname, c.relname)`,
    line: "r.ev_enabled, pg_get_ruledef(r.oid)",
    rows: ["r", "n", "c"],
    relation: "r.ev_class",
    query: ["'pg_rewrite'::regclass", "r.oid"],
    object: "'pg_rewrite'::regclass, r.oid",
    from: `pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE r.rulename <> '_RETURN' AND ${OURS("n")}`,
  },
  {
    name: "policies",
    key: `format('%I on %I.%I', p.polname, n.nspname, c.relname)`,
    line: `p.polcmd, p.polpermissive,
           ARRAY(SELECT CASE r WHEN 0 THEN 'public' ELSE ${OWNER("r")} END FROM unnest(p.polroles) AS r ORDER BY 1),
           pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)`,
    rows: ["p", "n", "c"],
    relation: "p.polrelid",
    query: ["'pg_policy'::regclass", "p.oid"],
    object: "'pg_policy'::regclass, p.oid",
    from: `pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE ${OURS("n")}`,
  },
  {
    name: "sequences",
    // Their definitions; the values are a question of their own.
    key: RELATION,
    line: `${OWNER("c.relowner")}, c.relpersistence, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmax,
           s.seqmin, s.seqcache, s.seqcycle,
           ARRAY(SELECT format('%I.%I.%I', tn.nspname, t.relname, a.attname)
              FROM pg_depend AS d JOIN pg_class AS t ON t.oid = d.refobjid JOIN pg_namespace AS tn ON tn.oid = t.relnamespace
              JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
             WHERE d.classid = ${CLASS} AND d.objid = c.oid AND d.refclassid = ${CLASS} AND d.deptype IN ('a', 'i'))`,
    rows: ["s", "c", "n"],
    object: `${CLASS}, c.oid`,
    from: `pg_sequence AS s JOIN pg_class AS c ON c.oid = s.seqrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE ${OURS("n")}`,
  },
  {
    name: "statistics objects",
    key: "format('%I.%I', n.nspname, s.stxname)",
    line: `${OWNER("s.stxowner")}, pg_get_statisticsobjdef(s.oid), s.stxstattarget`,
    rows: ["s", "n", "c"],
    relation: "s.stxrelid",
    object: "'pg_statistic_ext'::regclass, s.oid",
    from: `pg_statistic_ext AS s JOIN pg_namespace AS n ON n.oid = s.stxnamespace JOIN pg_class AS c ON c.oid = s.stxrelid
           WHERE ${OURS("n")}`,
  },
  {
    name: "foreign tables",
    key: RELATION,
    line: "s.srvname, t.ftoptions",
    rows: ["t", "c", "n", "s"],
    object: `${CLASS}, c.oid`,
    from: `pg_foreign_table AS t JOIN pg_class AS c ON c.oid = t.ftrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
           JOIN pg_foreign_server AS s ON s.oid = t.ftserver`,
  },
];
