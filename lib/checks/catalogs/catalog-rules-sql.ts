/** What PostgreSQL's catalogs must hold and no foreign key says: the rows that every object of a kind has. */

import { quoteLiteral } from "../../io/database.ts";

interface Rule {
  catalog: string;
  /** Of the row that is wrong, as text. */
  object: string;
  what: string;
  /** `FROM … WHERE …`: the rows that are wrong. */
  from: string;
  /** `server_version_num`. */
  since?: number;
  /** Somebody may have done it by hand, and it is worth knowing. */
  note?: true;
}

const relation = (alias = "c") =>
  `coalesce((SELECT nspname FROM pg_namespace AS n WHERE n.oid = ${alias}.relnamespace) || '.', '') || ${alias}.relname ` +
  `|| ' (OID ' || ${alias}.oid || ')'`;
const relationOf = (oid: string) =>
  `coalesce((SELECT ${relation("owner")} FROM pg_class AS owner WHERE owner.oid = ${oid}), 'OID ' || ${oid})`;
const named = (name: string, oid: string) => `${name} || ' (OID ' || ${oid} || ')'`;
const text = (what: string) => quoteLiteral(what);

/** Support functions without which an index of the access method cannot be used: each list is "one of these". */
const SUPPORT_FUNCTIONS: Readonly<Record<string, readonly (readonly number[])[]>> = {
  btree: [[1]],
  hash: [[1]],
  gist: [[1], [2], [5], [6], [7]],
  gin: [[2], [3], [4, 6]],
  spgist: [[1], [2], [3], [4], [5]],
  brin: [[1], [2], [3], [4]],
};

const supportFunctions = Object.entries(SUPPORT_FUNCTIONS)
  .flatMap(([method, needed]) => needed.map((oneOf) => `('${method}', ARRAY[${oneOf.join(", ")}])`))
  .join(", ");

/** RI_FKey_check_ins and _upd; then for each action its function for DELETE and for UPDATE. */
const CHECK_FUNCTIONS = "(1644, 1645)";
const ACTION_FUNCTIONS = "(1646, 1647, 1648, 1649, 1650, 1651, 1652, 1653, 1654, 1655)";

/** A row that must exist for each relation of a kind, and the other way round. */
const companion = (kinds: string, label: string, catalog: string, column: string): Rule[] => [
  {
    catalog: "pg_class",
    object: relation(),
    what: text(`this ${label} has no row in ${catalog}`),
    from: `FROM pg_class AS c WHERE c.relkind IN (${kinds})
             AND NOT EXISTS (SELECT FROM ${catalog} AS x WHERE x.${column} = c.oid)`,
  },
  {
    catalog,
    object: relation(),
    what: text(`the relation is no ${label}`),
    from: `FROM ${catalog} AS x JOIN pg_class AS c ON c.oid = x.${column} WHERE c.relkind NOT IN (${kinds})`,
  },
];

/** A flag that may be true for nothing but never false for something: the server would not look. */
const flag = (column: string, label: string, exists: string, kinds = "true"): Rule => ({
  catalog: "pg_class",
  object: relation(),
  what: text(`${column} is false although it has ${label}: they are not used`),
  from: `FROM pg_class AS c WHERE NOT c.${column} AND ${kinds} AND EXISTS (${exists})`,
});

/** Whatever commands made it (OIDs from 16384 on), unless it is temporary or belongs to a pinned schema or role. */
const recorded = (catalog: string, from: string, object: string, namespace: string, owner: string): Rule[] => [
  {
    catalog: "pg_depend",
    object,
    what: text("its dependency on its schema is not recorded: rows of pg_depend are missing"),
    from: `FROM ${from} AND (x.${namespace} >= 16384 OR x.${namespace} = 2200)
             AND EXISTS (SELECT FROM pg_namespace AS n WHERE n.oid = x.${namespace} AND n.nspname !~ '^pg_temp_')
             AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = ${catalog} AND d.objid = x.oid AND d.objsubid = 0
                                AND d.refclassid = 2615 AND d.refobjid = x.${namespace})`,
  },
  {
    catalog: "pg_shdepend",
    object,
    what: text("its owner is not recorded: rows of pg_shdepend are missing"),
    from: `FROM ${from} AND x.${owner} >= 16384
             AND NOT EXISTS (SELECT FROM pg_shdepend AS d WHERE d.classid = ${catalog} AND d.objid = x.oid AND d.deptype = 'o'
                                AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()))`,
  },
];

const RULES: readonly Rule[] = [
  ...recorded(
    "1259",
    "pg_class AS x WHERE x.oid >= 16384 AND x.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')",
    relation("x"),
    "relnamespace",
    "relowner",
  ),
  ...recorded("1255", "pg_proc AS x WHERE x.oid >= 16384", named("x.proname", "x.oid"), "pronamespace", "proowner"),
  {
    catalog: "pg_ts_config_map",
    object: named("c.cfgname", "c.oid"),
    what: `'it uses the dictionary ' || t.dictname || ', but for no token type: rows of pg_ts_config_map are missing'`,
    from: `FROM pg_ts_config AS c
             JOIN pg_depend AS d ON d.classid = 3602 AND d.objid = c.oid AND d.refclassid = 3600 AND d.deptype = 'n'
             JOIN pg_ts_dict AS t ON t.oid = d.refobjid
           WHERE NOT EXISTS (SELECT FROM pg_ts_config_map AS m WHERE m.mapcfg = c.oid AND m.mapdict = t.oid)`,
  },
  {
    catalog: "pg_enum",
    object: named("t.typname", "t.oid"),
    what: `'between its first and its last label, ' || (e.last - e.first + 1 - e.count) || ' of those it was made with are gone'`,
    // New labels go half way between two, or a whole one before the first or after the last.
    from: `FROM pg_type AS t JOIN (SELECT enumtypid, min(enumsortorder) AS first, max(enumsortorder) AS last, count(*) AS count
                                    FROM pg_enum WHERE enumsortorder = floor(enumsortorder) GROUP BY enumtypid) AS e
               ON e.enumtypid = t.oid
           WHERE e.last - e.first + 1 <> e.count`,
    note: true,
  },
  {
    catalog: "pg_enum",
    object: named("t.typname", "t.oid"),
    what: text("this enum has no labels"),
    from: `FROM pg_type AS t WHERE t.typtype = 'e' AND NOT EXISTS (SELECT FROM pg_enum AS e WHERE e.enumtypid = t.oid)`,
    note: true,
  },
  {
    catalog: "pg_class",
    object: relation(),
    what: text("claims to hold no data, which only a materialized view may: nobody can read it"),
    from: "FROM pg_class AS c WHERE c.relkind <> 'm' AND NOT c.relispopulated",
  },
  {
    catalog: "pg_attribute",
    object: relation(),
    what: `'has ' || c.relnatts || ' columns, but their rows are missing or too many: ' || coalesce('without column ' ||
      (SELECT string_agg(g::text, ', ') FROM generate_series(1, c.relnatts) AS g
        WHERE NOT EXISTS (SELECT FROM pg_attribute AS x WHERE x.attrelid = c.oid AND x.attnum = g)), a.count || ' rows')`,
    from: `FROM pg_class AS c LEFT JOIN attributes AS a ON a.attrelid = c.oid
           WHERE coalesce(a.count, 0) <> c.relnatts OR coalesce(a.last, 0) > c.relnatts`,
  },
  {
    catalog: "pg_attribute",
    object: relation(),
    what: `'has ' || coalesce(a.system, 0) || ' system columns instead of 6'`,
    from: `FROM pg_class AS c LEFT JOIN attributes AS a ON a.attrelid = c.oid
           WHERE c.relkind IN ('r', 'p', 'm', 't', 'S', 'f') AND coalesce(a.system, 0) <> 6`,
    since: 120_000,
  },
  ...companion("'i', 'I'", "index", "pg_index", "indexrelid"),
  ...companion("'S'", "sequence", "pg_sequence", "seqrelid"),
  ...companion("'p'", "partitioned table", "pg_partitioned_table", "partrelid"),
  ...companion("'f'", "foreign table", "pg_foreign_table", "ftrelid"),
  {
    catalog: "pg_index",
    object: relation(),
    what: `'has ' || i.indnatts || ' columns here and ' || c.relnatts || ' in pg_class'`,
    from: `FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE i.indnatts <> c.relnatts`,
  },
  {
    catalog: "pg_class",
    object: relation(),
    what: text("it has no row type in pg_type"),
    from: `FROM pg_class AS c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
             AND NOT EXISTS (SELECT FROM pg_type AS t WHERE t.oid = c.reltype AND t.typrelid = c.oid)`,
  },
  {
    catalog: "pg_type",
    object: named("t.typname", "t.oid"),
    what: text("this row type has no relation"),
    from: `FROM pg_type AS t WHERE t.typtype = 'c'
             AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = t.typrelid AND c.reltype = t.oid)`,
  },
  {
    catalog: "pg_type",
    object: named("t.typname", "t.oid"),
    what: text("the type that it names as its array is not"),
    from: `FROM pg_type AS t JOIN pg_type AS a ON a.oid = t.typarray WHERE a.typelem <> t.oid`,
  },
  {
    catalog: "pg_type",
    object: named("t.typname", "t.oid"),
    what: text("this range type has no row in pg_range"),
    from: `FROM pg_type AS t WHERE t.typtype = 'r' AND NOT EXISTS (SELECT FROM pg_range AS r WHERE r.rngtypid = t.oid)`,
  },
  {
    catalog: "pg_type",
    object: named("t.typname", "t.oid"),
    what: text("this multirange type has no row in pg_range"),
    from: `FROM pg_type AS t WHERE t.typtype = 'm' AND NOT EXISTS (SELECT FROM pg_range AS r WHERE r.rngmultitypid = t.oid)`,
    since: 140_000,
  },
  {
    catalog: "pg_enum",
    object: named("e.enumlabel", "e.oid"),
    what: text("its type is no enum"),
    from: `FROM pg_enum AS e JOIN pg_type AS t ON t.oid = e.enumtypid WHERE t.typtype <> 'e'`,
  },
  {
    catalog: "pg_proc",
    object: named("p.proname", "p.oid"),
    what: text("this aggregate has no row in pg_aggregate"),
    from: `FROM pg_proc AS p WHERE p.prokind = 'a' AND NOT EXISTS (SELECT FROM pg_aggregate AS a WHERE a.aggfnoid = p.oid)`,
  },
  {
    catalog: "pg_aggregate",
    object: named("p.proname", "p.oid"),
    what: text("its function is no aggregate"),
    from: `FROM pg_aggregate AS a JOIN pg_proc AS p ON p.oid = a.aggfnoid WHERE p.prokind <> 'a'`,
  },
  {
    catalog: "pg_attrdef",
    object: `${relationOf("a.attrelid")} || ', column ' || a.attname`,
    what: text("the column's default or generation expression is missing"),
    from: `FROM pg_attribute AS a WHERE a.atthasdef
             AND NOT EXISTS (SELECT FROM pg_attrdef AS d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)`,
  },
  {
    catalog: "pg_attrdef",
    object: `${relationOf("a.attrelid")} || ', column ' || a.attname`,
    what: text("there is a default, but atthasdef is false: it is not used"),
    from: `FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE NOT a.atthasdef`,
  },
  {
    catalog: "pg_depend",
    object: `${relationOf("a.attrelid")} || ', column ' || a.attname`,
    what: text("the identity column owns no sequence"),
    from: `FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
           WHERE a.attidentity <> '' AND NOT a.attisdropped AND NOT c.relispartition
             AND NOT EXISTS (SELECT FROM pg_depend AS d JOIN pg_sequence AS s ON s.seqrelid = d.objid
                              WHERE d.classid = 1259 AND d.refclassid = 1259 AND d.deptype = 'i'
                                AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum)`,
  },
  {
    catalog: "pg_depend",
    object: `${relationOf("r.ev_class")} || ', rule ' || r.rulename`,
    what: `'its dependency on ' || ${relationOf("x.relid")} || ' is not recorded: rows of pg_depend are missing'`,
    // Blanks in names are escaped there, so that none can look like this.
    from: `FROM pg_rewrite AS r
             CROSS JOIN LATERAL (SELECT DISTINCT substring(part FROM '^[0-9]+')::oid AS relid
                                   FROM unnest((string_to_array(r.ev_action::text, ' :relid '))[2:]) AS part) AS x
           WHERE r.oid >= 16384 AND x.relid >= 16384 AND x.relid <> r.ev_class
             AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 2618 AND d.objid = r.oid
                                AND d.refclassid = 1259 AND d.refobjid = x.relid)`,
  },
  {
    catalog: "pg_rewrite",
    object: relation(),
    what: text("the view's query is missing"),
    from: `FROM pg_class AS c WHERE c.relkind IN ('v', 'm')
             AND NOT EXISTS (SELECT FROM pg_rewrite AS r WHERE r.ev_class = c.oid AND r.ev_type = '1')`,
  },
  // VACUUM forgets an index that a failed CREATE INDEX CONCURRENTLY left behind.
  flag("relhasindex", "indexes", "SELECT FROM pg_index AS x WHERE x.indrelid = c.oid AND x.indisready AND x.indislive"),
  flag("relhasrules", "rules", "SELECT FROM pg_rewrite AS x WHERE x.ev_class = c.oid"),
  flag("relhastriggers", "triggers", "SELECT FROM pg_trigger AS x WHERE x.tgrelid = c.oid"),
  flag(
    "relhassubclass",
    "children",
    "SELECT FROM pg_inherits AS x WHERE x.inhparent = c.oid",
    "c.relkind IN ('r', 'p', 'f')",
  ),
  {
    catalog: "pg_constraint",
    object: relation(),
    what: `'has ' || c.relchecks || ' check constraints, but ' || coalesce(k.count, 0) || ' rows of them'`,
    from: `FROM pg_class AS c LEFT JOIN (SELECT conrelid, count(*) FROM pg_constraint WHERE contype = 'c' GROUP BY conrelid) AS k
             ON k.conrelid = c.oid WHERE c.relchecks <> coalesce(k.count, 0)`,
  },
  {
    catalog: "pg_inherits",
    object: relation(),
    what: text("this partition has no parent"),
    from: `FROM pg_class AS c WHERE c.relispartition AND NOT EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhrelid = c.oid)`,
  },
  {
    catalog: "pg_inherits",
    object: relation(),
    what: text("its columns are inherited, but it has no parent"),
    from: `FROM pg_class AS c WHERE NOT c.relispartition
             AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attinhcount > 0)
             AND NOT EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhrelid = c.oid)`,
  },
  {
    catalog: "pg_class",
    object: relation(),
    what: text("it is a partition, but relispartition is false"),
    from: `FROM pg_class AS c JOIN pg_inherits AS h ON h.inhrelid = c.oid JOIN pg_class AS p ON p.oid = h.inhparent
           WHERE p.relkind IN ('p', 'I') AND NOT c.relispartition`,
  },
  {
    catalog: "pg_class",
    object: relation(),
    what: text("this partition has no bounds"),
    from: `FROM pg_class AS c WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') AND c.relpartbound IS NULL`,
  },
  {
    catalog: "pg_class",
    object: relation(),
    what: text("its TOAST table is none"),
    from: `FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid WHERE t.relkind <> 't'`,
  },
  {
    catalog: "pg_class",
    object: relation(),
    what: text("this TOAST table belongs to no table"),
    from: `FROM pg_class AS c WHERE c.relkind = 't' AND NOT EXISTS (SELECT FROM pg_class AS o WHERE o.reltoastrelid = c.oid)`,
  },
  {
    catalog: "pg_index",
    object: relation(),
    what: text("this TOAST table has no index"),
    from: `FROM pg_class AS c WHERE c.relkind = 't' AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid)`,
  },
  {
    catalog: "pg_constraint",
    object: `${relationOf("k.conrelid")} || ', constraint ' || k.conname`,
    what: text("it has no index of its kind"),
    from: `FROM pg_constraint AS k WHERE k.contype IN ('p', 'u', 'x')
             AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indexrelid = k.conindid AND i.indrelid = k.conrelid
                                AND CASE k.contype WHEN 'p' THEN i.indisprimary WHEN 'x' THEN i.indisexclusion
                                                   ELSE i.indisunique OR i.indisexclusion END)`,
  },
  {
    catalog: "pg_constraint",
    object: relationOf("i.indexrelid"),
    what: text("the index of a primary key or exclusion constraint has no constraint"),
    from: `FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
           WHERE (i.indisprimary OR i.indisexclusion) AND c.oid >= 16384 AND c.relkind IN ('r', 'p')
             AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))`,
  },
  {
    catalog: "pg_trigger",
    object: `${relationOf("k.conrelid")} || ', constraint ' || k.conname`,
    what: text("the foreign key has lost triggers of the referencing table: it is not enforced"),
    from: `FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
             LEFT JOIN pg_constraint AS parent ON parent.oid = k.conparentid
             LEFT JOIN triggers AS t ON t.tgconstraint = k.oid AND t.tgrelid = k.conrelid
           WHERE k.contype = 'f' AND c.relkind = 'r' AND parent.conrelid IS DISTINCT FROM k.conrelid
             AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
             AND coalesce(t.checks, 0) <> 2`,
  },
  {
    catalog: "pg_trigger",
    object: `${relationOf("k.conrelid")} || ', constraint ' || k.conname`,
    what: `'the foreign key has lost triggers of the referenced table ' || ${relationOf("k.confrelid")} || ': it is not enforced'`,
    from: `FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.confrelid
             LEFT JOIN pg_constraint AS parent ON parent.oid = k.conparentid
             LEFT JOIN triggers AS t ON t.tgconstraint = k.oid AND t.tgrelid = k.confrelid
           WHERE k.contype = 'f' AND c.relkind = 'r' AND (k.conparentid = 0 OR parent.conrelid = k.conrelid)
             AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
             AND coalesce(t.actions, 0) <> 2`,
  },
  {
    catalog: "pg_trigger",
    object: `${relationOf("k.conrelid")} || ', constraint ' || k.conname`,
    what: text("the deferrable constraint has lost its trigger"),
    from: `FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
           WHERE k.contype IN ('p', 'u', 'x') AND k.condeferrable AND c.relkind = 'r'
             AND NOT EXISTS (SELECT FROM triggers AS t WHERE t.tgconstraint = k.oid AND t.tgrelid = k.conrelid)`,
  },
  {
    catalog: "pg_opclass",
    object: relationOf("u.indexrelid"),
    what: `'its operator class ' || u.opcname || ' is not of the access method ' || u.amname`,
    from: `FROM used AS u WHERE u.opcmethod <> u.relam`,
  },
  {
    catalog: "pg_amproc",
    object: relationOf("u.indexrelid"),
    what: `'its operator class ' || u.opcname || ' has no support function ' || array_to_string(s.one_of, ' or ')
      || ': the index cannot be used'`,
    from: `FROM used AS u JOIN (VALUES ${supportFunctions}) AS s(method, one_of) ON s.method = u.amname
           WHERE NOT EXISTS (SELECT FROM pg_amproc AS p
                              WHERE p.amprocfamily = u.opcfamily AND p.amproclefttype = u.opcintype
                                AND p.amprocrighttype = u.opcintype AND p.amprocnum = ANY (s.one_of))`,
  },
];

const MOST = 50;

/** Rows that several rules ask for, counted once. */
const SHARED = `
attributes AS MATERIALIZED (
  SELECT attrelid, count(*) FILTER (WHERE attnum > 0) AS count, max(attnum) AS last, count(*) FILTER (WHERE attnum < 0) AS system
    FROM pg_attribute GROUP BY attrelid),
triggers AS MATERIALIZED (
  SELECT tgconstraint, tgrelid, count(DISTINCT tgfoid) FILTER (WHERE tgfoid IN ${CHECK_FUNCTIONS}) AS checks,
         count(DISTINCT tgfoid) FILTER (WHERE tgfoid IN ${ACTION_FUNCTIONS}) AS actions
    FROM pg_trigger WHERE tgconstraint <> 0 GROUP BY tgconstraint, tgrelid),
used AS MATERIALIZED (
  SELECT DISTINCT ON (o.oid, c.relam) i.indexrelid, c.relam, a.amname, o.opcname, o.opcmethod, o.opcfamily, o.opcintype
    FROM pg_index AS i
    CROSS JOIN LATERAL unnest(i.indclass) AS k(opclass)
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_am AS a ON a.oid = c.relam
    JOIN pg_opclass AS o ON o.oid = k.opclass
   ORDER BY o.oid, c.relam, i.indexrelid)`;

export function rulesSql(serverVersion: number): string {
  const questions = RULES.filter((rule) => serverVersion >= (rule.since ?? 0)).map(
    ({ catalog, object, what, from, note = false }) =>
      `(SELECT '${catalog}' AS catalog, ${object} AS object, ${what} AS what, '${note}' AS note ${from} LIMIT ${MOST})`,
  );
  return `WITH ${SHARED}\n${questions.join("\nUNION ALL\n")}`;
}
