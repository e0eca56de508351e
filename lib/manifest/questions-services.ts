/** Replication, foreign servers, large objects, comments. */

import { FIRST_NORMAL_OID, OWNER, type Question } from "./question.ts";

export const SERVICE_QUESTIONS: readonly Question[] = [
  {
    name: "publications",
    key: "quote_ident(p.pubname)",
    line: `${OWNER("p.pubowner")}, to_jsonb(p) - ARRAY['oid', 'pubname', 'pubowner']`,
    rows: ["p"],
    object: "'pg_publication'::regclass, p.oid",
    from: "pg_publication AS p",
  },
  {
    name: "published tables",
    key: "format('%I.%I in %I', n.nspname, c.relname, p.pubname)",
    line: "to_jsonb(r) -> 'prattrs', pg_get_expr((to_jsonb(r) ->> 'prqual')::pg_node_tree, r.prrelid)",
    rows: ["r", "p", "c", "n"],
    object: "'pg_publication_rel'::regclass, r.oid",
    from: `pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid JOIN pg_class AS c ON c.oid = r.prrelid
           JOIN pg_namespace AS n ON n.oid = c.relnamespace`,
  },
  {
    name: "subscriptions",
    // Detaching disables them and takes them off their slots; it does not remove them.
    key: "quote_ident(s.subname)",
    line: `${OWNER("s.subowner")}, s.subpublications`,
    rows: ["s"],
    object: "'pg_subscription'::regclass, s.oid",
    from: "pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid WHERE d.datname = current_database()",
  },
  {
    name: "foreign-data wrappers",
    key: "quote_ident(w.fdwname)",
    line: `${OWNER("w.fdwowner")}, w.fdwhandler::regproc, w.fdwvalidator::regproc, w.fdwoptions`,
    rows: ["w"],
    object: "'pg_foreign_data_wrapper'::regclass, w.oid",
    from: "pg_foreign_data_wrapper AS w",
  },
  {
    name: "foreign servers",
    key: "quote_ident(s.srvname)",
    line: `${OWNER("s.srvowner")}, w.fdwname, s.srvtype, s.srvversion, s.srvoptions`,
    rows: ["s", "w"],
    object: "'pg_foreign_server'::regclass, s.oid",
    from: "pg_foreign_server AS s JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw",
  },
  {
    name: "user mappings",
    // By name only: their options hold passwords.
    key: "format('%s on %I', CASE m.umuser WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(m.umuser)) END, s.srvname)",
    line: "1",
    rows: ["s"],
    more: "m.umid",
    object: "'pg_user_mapping'::regclass, m.umid",
    from: "pg_user_mappings AS m JOIN pg_foreign_server AS s ON s.oid = m.srvid",
  },
  {
    name: "large objects",
    // Their OID is their name.
    key: "m.oid::text",
    line: OWNER("m.lomowner"),
    rows: ["m"],
    object: "'pg_largeobject'::regclass, m.oid",
    from: "pg_largeobject_metadata AS m",
  },
  {
    name: "comments",
    key: "format('%s %s', o.type, o.identity)",
    line: "d.description",
    rows: ["d"],
    object: "d.classoid::regclass, d.objoid",
    from: `pg_description AS d, pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
           WHERE d.objoid >= ${FIRST_NORMAL_OID} AND o.identity !~ '^pg_temp' AND o.identity IS NOT NULL`,
  },
  {
    name: "security labels",
    key: "format('%s %s by %s', o.type, o.identity, l.provider)",
    line: "l.label",
    rows: ["l"],
    object: "l.classoid::regclass, l.objoid",
    from: `pg_seclabel AS l, pg_identify_object(l.classoid, l.objoid, l.objsubid) AS o
           WHERE o.identity !~ '^pg_temp' AND o.identity IS NOT NULL`,
  },
];
