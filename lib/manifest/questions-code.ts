/** Types, functions, operators, and everything that text search and indexes are made of. */

import { FIRST_NORMAL_OID, OURS, OWNER, type Question } from "./question.ts";

const FUNCTION = "format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))";

export const CODE_QUESTIONS: readonly Question[] = [
  {
    name: "extensions",
    key: "quote_ident(e.extname)",
    // With its members by OID, which a physical restore keeps: nothing else says what belongs to it.
    line: `e.extversion, n.nspname, ${OWNER("e.extowner")}, e.extconfig, e.extcondition,
           (SELECT md5(string_agg(ROW(d.classid, d.objid)::text, ' ' ORDER BY d.classid, d.objid)) FROM pg_depend AS d
             WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e')`,
    rows: ["e", "n"],
    more: `(SELECT md5(string_agg(d.xmin::text || d.ctid::text, ' ' ORDER BY d.classid, d.objid)) FROM pg_depend AS d
             WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e')`,
    object: "'pg_extension'::regclass, e.oid",
    from: "pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace",
  },
  {
    name: "functions",
    key: FUNCTION,
    line: `${OWNER("p.proowner")}, p.prokind, l.lanname, CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END,
           p.prosrc, p.probin, p.proconfig`,
    rows: ["p", "n", "l"],
    query: ["'pg_proc'::regclass", "p.oid"],
    object: "'pg_proc'::regclass, p.oid",
    from: `pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace LEFT JOIN pg_language AS l ON l.oid = p.prolang
           WHERE ${OURS("n")}`,
  },
  {
    name: "aggregates",
    key: FUNCTION,
    line: `a.aggkind, a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn,
           a.aggminvtransfn, a.aggmfinalfn, a.aggsortop::regoperator, a.aggtranstype::regtype, a.agginitval, a.aggminitval`,
    rows: ["a", "p", "n"],
    object: "'pg_proc'::regclass, p.oid",
    from: `pg_aggregate AS a JOIN pg_proc AS p ON p.oid = a.aggfnoid JOIN pg_namespace AS n ON n.oid = p.pronamespace
           WHERE ${OURS("n")}`,
  },
  {
    name: "types",
    // Without array types and the row types of relations, which are not things of their own.
    key: "format('%I.%I', n.nspname, t.typname)",
    line: `t.typtype, ${OWNER("t.typowner")}, t.typnotnull, t.typdefault, t.typlen, t.typbyval, t.typalign, t.typstorage,
           t.typinput, t.typoutput, CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
           CASE t.typtype WHEN 'r' THEN r.rngsubtype::regtype END,
           ARRAY(SELECT e.enumlabel FROM pg_enum AS e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)`,
    rows: ["t", "n", "r"],
    more: "(SELECT string_agg(e.xmin::text || e.ctid::text, ' ' ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid)",
    object: "'pg_type'::regclass, t.oid",
    from: `pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace LEFT JOIN pg_class AS c ON c.oid = t.typrelid
           LEFT JOIN pg_range AS r ON r.rngtypid = t.oid
           WHERE (t.typrelid = 0 OR c.relkind = 'c')
             AND NOT EXISTS (SELECT FROM pg_type AS element WHERE element.typarray = t.oid) AND ${OURS("n")}`,
  },
  {
    name: "operators",
    key: `format('%I.%s(%s, %s)', n.nspname, o.oprname, format_type(o.oprleft, NULL), format_type(o.oprright, NULL))`,
    line: `${OWNER("o.oprowner")}, o.oprcode, o.oprcom::regoperator, o.oprnegate::regoperator, o.oprcanmerge, o.oprcanhash,
           o.oprrest, o.oprjoin`,
    rows: ["o", "n"],
    object: "'pg_operator'::regclass, o.oid",
    from: `pg_operator AS o JOIN pg_namespace AS n ON n.oid = o.oprnamespace WHERE ${OURS("n")}`,
  },
  {
    name: "operator classes",
    key: "format('%I.%I using %I', n.nspname, k.opcname, a.amname)",
    line: `${OWNER("k.opcowner")}, k.opcintype::regtype, k.opcdefault, k.opckeytype::regtype, f.opfname`,
    rows: ["k", "n", "a", "f"],
    object: "'pg_opclass'::regclass, k.oid",
    from: `pg_opclass AS k JOIN pg_namespace AS n ON n.oid = k.opcnamespace JOIN pg_am AS a ON a.oid = k.opcmethod
           LEFT JOIN pg_opfamily AS f ON f.oid = k.opcfamily WHERE ${OURS("n")}`,
  },
  {
    name: "operator families",
    key: "format('%I.%I using %I', n.nspname, f.opfname, a.amname)",
    line: `${OWNER("f.opfowner")},
           ARRAY(SELECT ROW(o.amopstrategy, o.amoppurpose, o.amopopr::regoperator)::text FROM pg_amop AS o
                  WHERE o.amopfamily = f.oid ORDER BY 1),
           ARRAY(SELECT ROW(p.amprocnum, p.amproclefttype::regtype, p.amprocrighttype::regtype, p.amproc)::text
                   FROM pg_amproc AS p WHERE p.amprocfamily = f.oid ORDER BY 1)`,
    rows: ["f", "n", "a"],
    more: `(SELECT md5(string_agg(o.xmin::text || o.ctid::text, ' ' ORDER BY o.oid)) FROM pg_amop AS o WHERE o.amopfamily = f.oid),
           (SELECT md5(string_agg(p.xmin::text || p.ctid::text, ' ' ORDER BY p.oid)) FROM pg_amproc AS p WHERE p.amprocfamily = f.oid)`,
    object: "'pg_opfamily'::regclass, f.oid",
    from: `pg_opfamily AS f JOIN pg_namespace AS n ON n.oid = f.opfnamespace JOIN pg_am AS a ON a.oid = f.opfmethod
           WHERE ${OURS("n")}`,
  },
  {
    name: "access methods",
    key: "quote_ident(a.amname)",
    line: "a.amtype, a.amhandler",
    rows: ["a"],
    object: "'pg_am'::regclass, a.oid",
    from: `pg_am AS a WHERE a.oid >= ${FIRST_NORMAL_OID}`,
  },
  {
    name: "casts",
    key: "format('%s as %s', format_type(k.castsource, NULL), format_type(k.casttarget, NULL))",
    line: "k.castfunc::regprocedure, k.castcontext, k.castmethod",
    rows: ["k"],
    object: "'pg_cast'::regclass, k.oid",
    from: `pg_cast AS k WHERE k.oid >= ${FIRST_NORMAL_OID}`,
  },
  {
    name: "collations",
    // Not their versions: whether they fit the library of this machine is a question for the restore alone.
    key: "format('%I.%I %s', n.nspname, c.collname, pg_encoding_to_char(c.collencoding))",
    line: `${OWNER("c.collowner")}, to_jsonb(c) - ARRAY['oid', 'collnamespace', 'collowner', 'collversion']`,
    rows: ["c", "n"],
    object: "'pg_collation'::regclass, c.oid",
    from: `pg_collation AS c JOIN pg_namespace AS n ON n.oid = c.collnamespace WHERE ${OURS("n")}`,
  },
  {
    name: "conversions",
    key: "format('%I.%I', n.nspname, c.conname)",
    line: `${OWNER("c.conowner")}, pg_encoding_to_char(c.conforencoding), pg_encoding_to_char(c.contoencoding), c.conproc, c.condefault`,
    rows: ["c", "n"],
    object: "'pg_conversion'::regclass, c.oid",
    from: `pg_conversion AS c JOIN pg_namespace AS n ON n.oid = c.connamespace WHERE ${OURS("n")}`,
  },
  {
    name: "text search configurations",
    key: "format('%I.%I', n.nspname, c.cfgname)",
    line: `${OWNER("c.cfgowner")}, p.prsname,
           ARRAY(SELECT ROW(m.maptokentype, m.mapseqno, d.dictname)::text
                   FROM pg_ts_config_map AS m JOIN pg_ts_dict AS d ON d.oid = m.mapdict
                  WHERE m.mapcfg = c.oid ORDER BY m.maptokentype, m.mapseqno)`,
    rows: ["c", "n", "p"],
    more: `(SELECT md5(string_agg(m.xmin::text || m.ctid::text || d.xmin::text, ' ' ORDER BY m.maptokentype, m.mapseqno))
              FROM pg_ts_config_map AS m LEFT JOIN pg_ts_dict AS d ON d.oid = m.mapdict WHERE m.mapcfg = c.oid)`,
    object: "'pg_ts_config'::regclass, c.oid",
    from: `pg_ts_config AS c JOIN pg_namespace AS n ON n.oid = c.cfgnamespace JOIN pg_ts_parser AS p ON p.oid = c.cfgparser
           WHERE ${OURS("n")}`,
  },
  {
    name: "text search dictionaries",
    key: "format('%I.%I', n.nspname, d.dictname)",
    line: `${OWNER("d.dictowner")}, t.tmplname, d.dictinitoption`,
    rows: ["d", "n", "t"],
    object: "'pg_ts_dict'::regclass, d.oid",
    from: `pg_ts_dict AS d JOIN pg_namespace AS n ON n.oid = d.dictnamespace JOIN pg_ts_template AS t ON t.oid = d.dicttemplate
           WHERE ${OURS("n")}`,
  },
  {
    name: "text search parsers and templates",
    key: "format('%s %I.%I', q.kind, n.nspname, q.name)",
    line: "q.functions",
    rows: ["n"],
    more: "q.version",
    object: "q.class, q.oid",
    from: `(SELECT 'parser' AS kind, prsname AS name, prsnamespace AS namespace, xmin::text || ctid::text AS version,
                   ROW(prsstart, prstoken, prsend, prsheadline, prslextype)::text AS functions,
                   'pg_ts_parser'::regclass AS class, oid FROM pg_ts_parser
            UNION ALL
            SELECT 'template', tmplname, tmplnamespace, xmin::text || ctid::text, ROW(tmplinit, tmpllexize)::text,
                   'pg_ts_template'::regclass, oid FROM pg_ts_template) AS q
           JOIN pg_namespace AS n ON n.oid = q.namespace WHERE ${OURS("n")}`,
  },
  {
    name: "languages",
    key: "quote_ident(l.lanname)",
    line: `${OWNER("l.lanowner")}, l.lanpltrusted, l.lanplcallfoid::regproc, l.laninline::regproc, l.lanvalidator::regproc`,
    rows: ["l"],
    object: "'pg_language'::regclass, l.oid",
    from: "pg_language AS l",
  },
  {
    name: "transforms",
    key: "format('%s for %I', format_type(t.trftype, NULL), l.lanname)",
    line: "t.trffromsql::regproc, t.trftosql::regproc",
    rows: ["t", "l"],
    object: "'pg_transform'::regclass, t.oid",
    from: "pg_transform AS t JOIN pg_language AS l ON l.oid = t.trflang",
  },
  {
    name: "event triggers",
    key: "quote_ident(e.evtname)",
    line: `e.evtevent, ${OWNER("e.evtowner")}, e.evtfoid::regproc, e.evtenabled, e.evttags`,
    rows: ["e"],
    object: "'pg_event_trigger'::regclass, e.oid",
    from: "pg_event_trigger AS e",
  },
];
