/**
 * What a cluster is asked about its objects, one answer per object. An answer is the same on the source and on its restore:
 * names instead of OIDs, definitions instead of statistics, nothing that load, autovacuum, recovery or detaching moves
 * (passwords: Patroni sets them; subscriptions are disabled and lose their slots; jobs are switched off). Asked with an empty
 * search_path, so that PostgreSQL qualifies every name itself.
 */

import { OWNER, type Question } from "./question.ts";
import { CODE_QUESTIONS } from "./questions-code.ts";
import { GRANT_QUESTIONS } from "./questions-grants.ts";
import { RELATION_QUESTIONS } from "./questions-relations.ts";
import { SERVICE_QUESTIONS } from "./questions-services.ts";

/** Asked once, in the database `postgres`. */
export const CLUSTER_QUESTIONS: readonly Question[] = [
  {
    name: "databases",
    key: "d.datname",
    // Columns that came or went with a version are reached through to_jsonb.
    line: `${OWNER("d.datdba")}, pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, to_jsonb(d) ->> 'datlocprovider',
           coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale'), d.datistemplate, d.datallowconn,
           d.datconnlimit, t.spcname`,
    rows: ["d", "t"],
    object: "'pg_database'::regclass, d.oid",
    from: "pg_database AS d JOIN pg_tablespace AS t ON t.oid = d.dattablespace WHERE d.datname <> 'template0'",
  },
  {
    name: "roles",
    key: "a.rolname",
    line: `a.rolsuper, a.rolinherit, a.rolcreaterole, a.rolcreatedb, a.rolcanlogin, a.rolreplication, a.rolbypassrls,
           a.rolconnlimit, a.rolvaliduntil`,
    rows: ["a"],
    object: "'pg_authid'::regclass, a.oid",
    from: "pg_authid AS a WHERE a.rolname !~ '^pg_'",
  },
  {
    name: "role memberships",
    key: `format('%I in %I by %I', ${OWNER("m.member")}, ${OWNER("m.roleid")}, ${OWNER("m.grantor")})`,
    line: "to_jsonb(m) - ARRAY['oid', 'roleid', 'member', 'grantor']",
    rows: ["m", "r", "u", "g"],
    object: "'pg_auth_members'::regclass, 0::oid",
    from: `pg_auth_members AS m LEFT JOIN pg_authid AS r ON r.oid = m.roleid LEFT JOIN pg_authid AS u ON u.oid = m.member
           LEFT JOIN pg_authid AS g ON g.oid = m.grantor`,
  },
  {
    name: "role and database settings",
    key: "format('%s in %s', coalesce(quote_ident(r.rolname), 'every role'), coalesce(quote_ident(d.datname), 'every database'))",
    line: "s.setconfig",
    rows: ["s", "d", "r"],
    object: "'pg_db_role_setting'::regclass, 0::oid",
    from: `pg_db_role_setting AS s LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
           LEFT JOIN pg_authid AS r ON r.oid = s.setrole`,
  },
  {
    name: "tablespaces",
    key: "t.spcname",
    // Not their places: a restore maps them elsewhere.
    line: `${OWNER("t.spcowner")}, t.spcoptions`,
    rows: ["t"],
    object: "'pg_tablespace'::regclass, t.oid",
    from: "pg_tablespace AS t",
  },
  {
    name: "grants on databases and tablespaces",
    key: "format('%s %I', g.kind, g.name)",
    line: "g.acl",
    rows: [],
    more: "g.version",
    object: "g.class, g.oid",
    from: `(SELECT 'database' AS kind, datname AS name, datacl::text AS acl, xmin::text || ctid::text AS version,
                   'pg_database'::regclass AS class, oid
              FROM pg_database WHERE datacl IS NOT NULL
            UNION ALL
            SELECT 'tablespace', spcname, spcacl::text, xmin::text || ctid::text, 'pg_tablespace'::regclass, oid
              FROM pg_tablespace WHERE spcacl IS NOT NULL) AS g`,
  },
  {
    name: "comments on shared objects",
    key: "format('%s %s', o.type, o.identity)",
    line: "d.description",
    rows: ["d"],
    object: "d.classoid::regclass, d.objoid",
    from: "pg_shdescription AS d, pg_identify_object(d.classoid, d.objoid, 0) AS o WHERE o.identity IS NOT NULL",
  },
];

/** Asked in every database that can be connected to and is no template. */
export const DATABASE_QUESTIONS: readonly Question[] = [
  ...RELATION_QUESTIONS,
  ...CODE_QUESTIONS,
  ...SERVICE_QUESTIONS,
  ...GRANT_QUESTIONS,
];
