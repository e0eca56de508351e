/**
 * What a cluster is asked about itself. Every question is one SELECT of one text column, a row per object, that gives the
 * same rows on the source and on its restore: names instead of OIDs, definitions instead of statistics, nothing that load,
 * autovacuum, recovery or detaching moves (passwords: Patroni sets them; sequences' values jump in recovery; subscriptions
 * are disabled and lose their slots; jobs are switched off). Asked with an empty search_path, so that PostgreSQL qualifies every name itself.
 */

export interface Question {
  /** Also the key of the entry in a receipt. */
  name: string;
  sql: string;
}

/** Everything that people made; `pg_` is reserved and covers the temporary schemas and TOAST. */
const OURS = (namespace: string) => `${namespace}.nspname !~ '^pg_' AND ${namespace}.nspname <> 'information_schema'`;

const OWNER = (column: string) => `pg_get_userbyid(${column})`;

/** The first OID that is not PostgreSQL's own (access/transam.h, FirstNormalObjectId). */
const FIRST_NORMAL_OID = 16384;

/** Asked once, in the database `postgres`. */
export const CLUSTER_QUESTIONS: readonly Question[] = [
  {
    name: "databases",
    // Columns that came or went with a version are reached through to_jsonb.
    sql: `
SELECT ROW(d.datname, ${OWNER("d.datdba")}, pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
           to_jsonb(d) ->> 'datlocprovider', coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale'),
           d.datistemplate, d.datallowconn, d.datconnlimit, t.spcname, d.datacl)::text
  FROM pg_database AS d JOIN pg_tablespace AS t ON t.oid = d.dattablespace
 WHERE d.datname <> 'template0'`,
  },
  {
    name: "roles",
    sql: `
SELECT ROW(rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
           rolconnlimit, rolvaliduntil)::text
  FROM pg_roles WHERE rolname !~ '^pg_'`,
  },
  {
    name: "role memberships",
    sql: `
SELECT ROW(${OWNER("m.roleid")}, ${OWNER("m.member")}, ${OWNER("m.grantor")},
           to_jsonb(m) - ARRAY['oid', 'roleid', 'member', 'grantor'])::text
  FROM pg_auth_members AS m`,
  },
  {
    name: "role and database settings",
    sql: `
SELECT ROW(d.datname, r.rolname, s.setconfig)::text
  FROM pg_db_role_setting AS s
  LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
  LEFT JOIN pg_roles AS r ON r.oid = s.setrole`,
  },
  {
    name: "tablespaces",
    // Not their places: a restore maps them elsewhere.
    sql: `SELECT ROW(spcname, ${OWNER("spcowner")}, spcacl, spcoptions)::text FROM pg_tablespace`,
  },
];

/** Asked in every database that can be connected to and is no template. */
export const DATABASE_QUESTIONS: readonly Question[] = [
  {
    name: "schemas",
    sql: `SELECT ROW(n.nspname, ${OWNER("n.nspowner")})::text FROM pg_namespace AS n WHERE ${OURS("n")}`,
  },
  {
    name: "extensions",
    sql: `
SELECT ROW(e.extname, e.extversion, n.nspname, ${OWNER("e.extowner")})::text
  FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace`,
  },
  {
    name: "tables",
    sql: `
SELECT ROW(n.nspname, c.relname, c.relkind, c.relpersistence, ${OWNER("c.relowner")}, a.amname, t.spcname, c.reloptions,
           c.relrowsecurity, c.relforcerowsecurity, c.relreplident, pg_get_partkeydef(c.oid),
           pg_get_expr(c.relpartbound, c.oid),
           ARRAY(SELECT format('%I.%I', pn.nspname, p.relname)
                   FROM pg_inherits AS i JOIN pg_class AS p ON p.oid = i.inhparent
                   JOIN pg_namespace AS pn ON pn.oid = p.relnamespace
                  WHERE i.inhrelid = c.oid ORDER BY i.inhseqno))::text
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_am AS a ON a.oid = c.relam
  LEFT JOIN pg_tablespace AS t ON t.oid = c.reltablespace
 WHERE c.relkind IN ('r', 'p', 'f') AND ${OURS("n")}`,
  },
  {
    name: "columns",
    sql: `
SELECT ROW(n.nspname, c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attstorage, l.collname, a.attoptions)::text
  FROM pg_attribute AS a
  JOIN pg_class AS c ON c.oid = a.attrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
 WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND a.attnum > 0 AND NOT a.attisdropped AND ${OURS("n")}`,
  },
  {
    name: "constraints",
    sql: `
SELECT ROW(n.nspname, r.relname, t.typname, k.conname, k.contype, k.convalidated, pg_get_constraintdef(k.oid))::text
  FROM pg_constraint AS k
  JOIN pg_namespace AS n ON n.oid = k.connamespace
  LEFT JOIN pg_class AS r ON r.oid = k.conrelid
  LEFT JOIN pg_type AS t ON t.oid = k.contypid
 WHERE ${OURS("n")}`,
  },
  {
    name: "indexes",
    sql: `
SELECT ROW(n.nspname, c.relname, pg_get_indexdef(c.oid), t.spcname, i.indisvalid, i.indisready, i.indisclustered,
           i.indisreplident)::text
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_tablespace AS t ON t.oid = c.reltablespace
 WHERE ${OURS("n")}`,
  },
  {
    name: "views",
    sql: `
SELECT ROW(n.nspname, c.relname, c.relkind, ${OWNER("c.relowner")}, c.reloptions, c.relispopulated,
           pg_get_viewdef(c.oid))::text
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('v', 'm') AND ${OURS("n")}`,
  },
  {
    name: "functions",
    sql: `
SELECT ROW(n.nspname, p.proname, ${OWNER("p.proowner")}, p.prokind, pg_get_function_identity_arguments(p.oid),
           CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END, p.prosrc, p.probin, g.definition)::text
  FROM pg_proc AS p
  JOIN pg_namespace AS n ON n.oid = p.pronamespace
  LEFT JOIN LATERAL (
    SELECT ROW(a.aggkind, a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn,
               a.aggminvtransfn, a.aggmfinalfn, a.aggsortop::regoperator, a.aggtranstype::regtype, a.agginitval,
               a.aggminitval)::text
      FROM pg_aggregate AS a WHERE a.aggfnoid = p.oid) AS g(definition) ON true
 WHERE ${OURS("n")}`,
  },
  {
    name: "triggers",
    sql: `
SELECT ROW(n.nspname, c.relname, t.tgname, t.tgenabled, pg_get_triggerdef(t.oid))::text
  FROM pg_trigger AS t
  JOIN pg_class AS c ON c.oid = t.tgrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE NOT t.tgisinternal AND ${OURS("n")}`,
  },
  {
    name: "event triggers",
    sql: `
SELECT ROW(evtname, evtevent, ${OWNER("evtowner")}, evtfoid::regproc, evtenabled, evttags)::text FROM pg_event_trigger`,
  },
  {
    name: "rules",
    sql: `
SELECT ROW(n.nspname, c.relname, r.rulename, r.ev_enabled, pg_get_ruledef(r.oid))::text
  FROM pg_rewrite AS r
  JOIN pg_class AS c ON c.oid = r.ev_class
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE r.rulename <> '_RETURN' AND ${OURS("n")}`,
  },
  {
    name: "policies",
    sql: `
SELECT ROW(n.nspname, c.relname, p.polname, p.polcmd, p.polpermissive,
           ARRAY(SELECT CASE r WHEN 0 THEN 'public' ELSE ${OWNER("r")} END FROM unnest(p.polroles) AS r ORDER BY 1),
           pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))::text
  FROM pg_policy AS p
  JOIN pg_class AS c ON c.oid = p.polrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE ${OURS("n")}`,
  },
  {
    name: "types",
    // Without array types and the row types of relations, which are not things of their own.
    sql: `
SELECT ROW(n.nspname, t.typname, t.typtype, ${OWNER("t.typowner")}, t.typnotnull, t.typdefault,
           CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
           CASE t.typtype WHEN 'r' THEN r.rngsubtype::regtype END,
           ARRAY(SELECT e.enumlabel FROM pg_enum AS e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder))::text
  FROM pg_type AS t
  JOIN pg_namespace AS n ON n.oid = t.typnamespace
  LEFT JOIN pg_class AS c ON c.oid = t.typrelid
  LEFT JOIN pg_range AS r ON r.rngtypid = t.oid
 WHERE (t.typrelid = 0 OR c.relkind = 'c')
   AND NOT EXISTS (SELECT FROM pg_type AS element WHERE element.typarray = t.oid)
   AND ${OURS("n")}`,
  },
  {
    name: "sequences",
    // Their definitions: recovery moves last_value up to 32 ahead.
    sql: `
SELECT ROW(n.nspname, c.relname, ${OWNER("c.relowner")}, c.relpersistence, format_type(s.seqtypid, NULL), s.seqstart,
           s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle)::text
  FROM pg_sequence AS s
  JOIN pg_class AS c ON c.oid = s.seqrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE ${OURS("n")}`,
  },
  {
    name: "publications",
    sql: `
SELECT ROW(p.pubname, ${OWNER("p.pubowner")}, to_jsonb(p) - ARRAY['oid', 'pubname', 'pubowner'])::text
  FROM pg_publication AS p
UNION ALL
SELECT ROW(p.pubname, n.nspname, c.relname, to_jsonb(r) ->> 'prqual', to_jsonb(r) -> 'prattrs')::text
  FROM pg_publication_rel AS r
  JOIN pg_publication AS p ON p.oid = r.prpubid
  JOIN pg_class AS c ON c.oid = r.prrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace`,
  },
  {
    name: "subscriptions",
    // Detaching disables them and takes them off their slots; it does not remove them.
    sql: `
SELECT ROW(s.subname, ${OWNER("s.subowner")}, s.subpublications)::text
  FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid
 WHERE d.datname = current_database()`,
  },
  {
    name: "operators",
    sql: `
SELECT ROW(n.nspname, o.oprname, o.oid::regoperator, ${OWNER("o.oprowner")}, o.oprcode, o.oprcom::regoperator,
           o.oprnegate::regoperator, o.oprcanmerge, o.oprcanhash, o.oprrest, o.oprjoin)::text
  FROM pg_operator AS o JOIN pg_namespace AS n ON n.oid = o.oprnamespace
 WHERE ${OURS("n")}
UNION ALL
SELECT ROW(n.nspname, a.amname, k.opcname, ${OWNER("k.opcowner")}, k.opcintype::regtype, k.opcdefault,
           k.opckeytype::regtype)::text
  FROM pg_opclass AS k JOIN pg_namespace AS n ON n.oid = k.opcnamespace JOIN pg_am AS a ON a.oid = k.opcmethod
 WHERE ${OURS("n")}
UNION ALL
SELECT ROW(n.nspname, a.amname, f.opfname, ${OWNER("f.opfowner")})::text
  FROM pg_opfamily AS f JOIN pg_namespace AS n ON n.oid = f.opfnamespace JOIN pg_am AS a ON a.oid = f.opfmethod
 WHERE ${OURS("n")}`,
  },
  {
    name: "casts",
    sql: `
SELECT ROW(castsource::regtype, casttarget::regtype, castfunc::regprocedure, castcontext, castmethod)::text
  FROM pg_cast WHERE oid >= ${FIRST_NORMAL_OID}`,
  },
  {
    name: "collations",
    // Not their versions: whether they fit the library of this machine is a question for the restore alone.
    sql: `
SELECT ROW(n.nspname, ${OWNER("c.collowner")},
           to_jsonb(c) - ARRAY['oid', 'collnamespace', 'collowner', 'collversion'])::text
  FROM pg_collation AS c JOIN pg_namespace AS n ON n.oid = c.collnamespace
 WHERE ${OURS("n")}`,
  },
  {
    name: "text search",
    sql: `
SELECT ROW('configuration', n.nspname, c.cfgname, ${OWNER("c.cfgowner")}, p.prsname,
           ARRAY(SELECT ROW(m.maptokentype, m.mapseqno, d.dictname)
                   FROM pg_ts_config_map AS m JOIN pg_ts_dict AS d ON d.oid = m.mapdict
                  WHERE m.mapcfg = c.oid ORDER BY m.maptokentype, m.mapseqno))::text
  FROM pg_ts_config AS c JOIN pg_namespace AS n ON n.oid = c.cfgnamespace JOIN pg_ts_parser AS p ON p.oid = c.cfgparser
 WHERE ${OURS("n")}
UNION ALL
SELECT ROW('dictionary', n.nspname, d.dictname, ${OWNER("d.dictowner")}, t.tmplname, d.dictinitoption)::text
  FROM pg_ts_dict AS d JOIN pg_namespace AS n ON n.oid = d.dictnamespace JOIN pg_ts_template AS t ON t.oid = d.dicttemplate
 WHERE ${OURS("n")}`,
  },
  {
    name: "languages",
    sql: `
SELECT ROW(lanname, ${OWNER("lanowner")}, lanpltrusted, lanplcallfoid::regproc, laninline::regproc, lanvalidator::regproc)::text
  FROM pg_language`,
  },
  {
    name: "foreign servers",
    // User mappings by name only: their options hold passwords and show to few.
    sql: `
SELECT ROW('wrapper', fdwname, ${OWNER("fdwowner")}, fdwhandler::regproc, fdwvalidator::regproc, fdwoptions)::text
  FROM pg_foreign_data_wrapper
UNION ALL
SELECT ROW('server', s.srvname, ${OWNER("s.srvowner")}, w.fdwname, s.srvtype, s.srvversion, s.srvoptions)::text
  FROM pg_foreign_server AS s JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw
UNION ALL
SELECT ROW('user mapping', srvname, usename)::text FROM pg_user_mappings
UNION ALL
SELECT ROW('table', n.nspname, c.relname, s.srvname, t.ftoptions)::text
  FROM pg_foreign_table AS t
  JOIN pg_class AS c ON c.oid = t.ftrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_foreign_server AS s ON s.oid = t.ftserver`,
  },
  {
    name: "statistics objects",
    sql: `
SELECT ROW(n.nspname, s.stxname, ${OWNER("s.stxowner")}, pg_get_statisticsobjdef(s.oid))::text
  FROM pg_statistic_ext AS s JOIN pg_namespace AS n ON n.oid = s.stxnamespace
 WHERE ${OURS("n")}`,
  },
  {
    name: "large objects",
    // Their OID is their name.
    sql: `SELECT ROW(oid, ${OWNER("lomowner")})::text FROM pg_largeobject_metadata`,
  },
  {
    name: "grants",
    sql: `
SELECT ROW('schema', n.nspname, n.nspacl)::text FROM pg_namespace AS n WHERE n.nspacl IS NOT NULL AND ${OURS("n")}
UNION ALL
SELECT ROW('relation', n.nspname, c.relname, c.relacl)::text
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relacl IS NOT NULL AND ${OURS("n")}
UNION ALL
SELECT ROW('column', n.nspname, c.relname, a.attname, a.attacl)::text
  FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND ${OURS("n")}
UNION ALL
SELECT ROW('function', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), p.proacl)::text
  FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE p.proacl IS NOT NULL AND ${OURS("n")}
UNION ALL
SELECT ROW('type', n.nspname, t.typname, t.typacl)::text
  FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.typacl IS NOT NULL AND ${OURS("n")}
UNION ALL
SELECT ROW('language', lanname, lanacl)::text FROM pg_language WHERE lanacl IS NOT NULL
UNION ALL
SELECT ROW('wrapper', fdwname, fdwacl)::text FROM pg_foreign_data_wrapper WHERE fdwacl IS NOT NULL
UNION ALL
SELECT ROW('server', srvname, srvacl)::text FROM pg_foreign_server WHERE srvacl IS NOT NULL
UNION ALL
SELECT ROW('large object', oid, lomacl)::text FROM pg_largeobject_metadata WHERE lomacl IS NOT NULL
UNION ALL
SELECT ROW('default', ${OWNER("d.defaclrole")}, n.nspname, d.defaclobjtype, d.defaclacl)::text
  FROM pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace`,
  },
  {
    name: "comments",
    sql: `
SELECT ROW(o.type, o.identity, d.description)::text
  FROM pg_description AS d, pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
 WHERE d.objoid >= ${FIRST_NORMAL_OID} AND o.identity !~ '^pg_temp'`,
  },
];

/**
 * The number of rows and a SHA-256 over the rows' sorted SHA-256s: a few bytes travel, and memory stays small whatever the
 * length of a row. convert_to into the database's own encoding gives the bytes as they are stored, in SQL_ASCII too.
 * `rows` is a subquery's text and `row` the expression for one row's text.
 */
export function digestSql(rows: string, row: string): string {
  return `
SELECT count(*) AS count,
       encode(sha256(coalesce(string_agg(hash, ''::bytea ORDER BY hash), ''::bytea)), 'hex') AS digest
  FROM (SELECT sha256(convert_to(${row}, $1::text)) AS hash FROM (
${rows}
) AS patroni_restore_answer) AS hashes`;
}
