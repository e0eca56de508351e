/** Rows of the catalogs that are lost or say something that cannot be. */

import { APP_DATABASE, ODD_DATABASE } from "../../source.ts";
import { CATCHERS } from "../catchers.ts";
import { inArea, type KindWithoutArea, rowsBySql } from "../kind.ts";
import { changeBlock, flip, items, liveItems } from "../pages.ts";

const { catalogs, objects, libraries, collations, checksums, largeObjects } = CATCHERS;
const CAUGHT = [...catalogs, ...objects];

/** A row is lost; other rows still refer to it, so that nobody needs the source to know. */
const lost = (catalog: string, whose: string, where: string, more: Partial<KindWithoutArea> = {}): KindWithoutArea => ({
  name: `${catalog}: ${whose} lost`,
  damage: rowsBySql(`DELETE FROM pg_catalog.${catalog} WHERE ${where}`, { atLeast: true }),
  caughtBy: CAUGHT,
  level: "standard",
  withoutReceipt: "standard",
  ...more,
});

/** A row is lost that nothing else mentions. */
const lostUnmentioned = (catalog: string, whose: string, where: string) =>
  lost(catalog, whose, where, { caughtBy: [...objects, ...catalogs], withoutReceipt: null });

const wrong = (
  name: string,
  statement: string,
  more: Partial<KindWithoutArea> & { atLeast?: boolean; database?: string } = {},
): KindWithoutArea => {
  const { atLeast, database, ...rest } = more;
  return {
    name,
    damage: rowsBySql(statement, { atLeast: atLeast ?? false, database: database ?? APP_DATABASE }),
    caughtBy: CAUGHT,
    level: "standard",
    withoutReceipt: "standard",
    ...rest,
  };
};

const rel = (name: string) => `'${name}'::regclass`;
const NOBODY = 99999;

export const catalogKinds = inArea("catalogs", [
  lost("pg_attribute", "a column of a table", `attrelid = ${rel("lab.ledger")} AND attname = 'note'`),
  lost("pg_attribute", "a system column of a table", `attrelid = ${rel("lab.ledger")} AND attname = 'ctid'`),
  lost("pg_attribute", "a column of an index", `attrelid = ${rel("lab.things_pair")} AND attnum = 2`),
  lost("pg_attrdef", "a default", `adrelid = ${rel("lab.ledger")}`),
  lost("pg_constraint", "a primary key", "conname = 'ledger_pkey'"),
  lost("pg_constraint", "a foreign key", "conname = 'ledger_account'"),
  lost("pg_constraint", "a check", "conname = 'ledger_amount'"),
  lost("pg_constraint", "a domain's check", "conname = 'percent_check'", { withoutReceipt: null }),
  lost("pg_index", "an index", `indexrelid = ${rel("lab.things_hash")}`),
  lost(
    "pg_index",
    "a TOAST table's index",
    `indrelid = (SELECT reltoastrelid FROM pg_catalog.pg_class WHERE oid = ${rel("lab.papers")})`,
  ),
  lost("pg_proc", "a function of a trigger", "proname = 'touch'"),
  lost("pg_proc", "a function that nobody calls", "proname = 'twice'", { withoutReceipt: null }),
  lost("pg_proc", "a function of an extension", "proname = 'hstore_in'"),
  lost("pg_proc", "a function of PostgreSQL's own that an operator needs", "proname = 'network_overlap'"),
  lostUnmentioned("pg_proc", "a function of PostgreSQL's own that nothing needs", "proname = 'initcap'"),
  lost("pg_type", "an enum", "typname = 'mood'"),
  lost("pg_type", "an array type", "typname = '_mood'"),
  lost("pg_type", "a table's row type", `typrelid = ${rel("lab.ledger")}`),
  lost("pg_type", "a domain", "typname = 'percent'"),
  lost("pg_type", "a type of PostgreSQL's own", "typname = 'macaddr8'"),
  lost("pg_enum", "a label in use", "enumlabel = 'glad'"),
  lost("pg_range", "a range type", "rngtypid = 'lab.span'::regtype"),
  lost("pg_operator", "an operator", "oprname = '~=~' AND oprleft = 'int4'::regtype", { withoutReceipt: null }),
  lost("pg_operator", "an operator of PostgreSQL's own", "oprname = '&&' AND oprleft = 'inet'::regtype"),
  lost("pg_amop", "an operator of an operator class", "amopopr = '&&(box,box)'::regoperator AND amopmethod = 783"),
  lost("pg_amproc", "a support function of an operator class", "amproc::text = 'network_cmp'"),
  lost("pg_opclass", "an operator class in use", "opcname = 'gist_ltree_ops'"),
  lost("pg_opfamily", "an operator family in use", "opfname = 'gist_ltree_ops'"),
  lost("pg_am", "an access method in use", "amname = 'bloom'"),
  lost("pg_aggregate", "an aggregate", "aggfnoid = 'lab.total'::regproc"),
  lost("pg_cast", "a cast", "castsource = 'lab.mood'::regtype AND castfunc <> 0", { withoutReceipt: null }),
  lostUnmentioned(
    "pg_cast",
    "a cast of PostgreSQL's own",
    "castsource = 'money'::regtype AND casttarget = 'numeric'::regtype",
  ),
  lost("pg_collation", "a collation in use", "collname = 'swedish'"),
  lost("pg_conversion", "a conversion of PostgreSQL's own", "conname = 'utf8_to_iso_8859_1'", { withoutReceipt: null }),
  lost("pg_language", "plpgsql", "lanname = 'plpgsql'"),
  lost("pg_depend", "what a view depends on", `refobjid = ${rel("lab.ledger")} AND classid = ${rel("pg_rewrite")}`),
  lost("pg_depend", "a sequence's owner", `objid = ${rel("lab.typed_id_seq")} AND refobjid = ${rel("lab.typed")}`),
  lost("pg_depend", "a member of an extension", "objid = 'public.hstore'::regtype AND deptype = 'e'", {
    withoutReceipt: null,
  }),
  lost("pg_depend", "a constraint's index", `objid = ${rel("lab.ledger_pkey")}`),
  lost("pg_shdepend", "an owner", `objid = ${rel("lab.parent")} AND deptype = 'o'`),
  lost("pg_class", "a table", `oid = ${rel("lab.plain")}`),
  lost("pg_class", "an index", `oid = ${rel("lab.things_pair")}`),
  lost(
    "pg_class",
    "a TOAST table",
    `oid = (SELECT reltoastrelid FROM pg_catalog.pg_class WHERE oid = ${rel("lab.papers")})`,
  ),
  lost("pg_class", "a view", `oid = ${rel("lab.rich")}`),
  lost("pg_class", "a sequence", `oid = ${rel("lab.typed_id_seq")}`),
  lost("pg_namespace", "a schema", "nspname = 'lab'"),
  lost("pg_authid", "an owner", "rolname = 'lab_owner'"),
  lost("pg_authid", "a member of a role", "rolname = 'lab_auditor'"),
  lost("pg_auth_members", "a membership", "roleid = 'lab_reader'::regrole", { withoutReceipt: null }),
  lost("pg_database", "a database", "datname LIKE 'Kunden%'", { withoutReceipt: null }),
  lost("pg_tablespace", "a tablespace", "spcname = 'archive space'"),
  lost("pg_db_role_setting", "a role's setting", "setrole = 'lab_auditor'::regrole", { withoutReceipt: null }),
  lost("pg_trigger", "a trigger", "tgname = 'typed_touch'", { withoutReceipt: null }),
  lost(
    "pg_trigger",
    "a foreign key's trigger",
    `tgconstrrelid = ${rel("lab.accounts")} AND tgrelid = ${rel("lab.ledger")} AND tgtype = 5`,
  ),
  lost("pg_rewrite", "a view's query", `ev_class = ${rel("lab.rich")}`),
  lost("pg_rewrite", "a rule", "rulename = 'no_delete'", { withoutReceipt: null }),
  lost("pg_sequence", "a sequence", `seqrelid = ${rel("lab.tickets")}`),
  lost("pg_inherits", "a partition", `inhrelid = ${rel("lab.measured_1")}`),
  lost("pg_inherits", "a child", `inhrelid = ${rel("lab.child")}`, { withoutReceipt: null }),
  lost("pg_partitioned_table", "a partitioned table", `partrelid = ${rel("lab.measured")}`),
  lost("pg_statistic_ext", "a statistics object", "stxname = 'things_statistics'", { withoutReceipt: null }),
  lost("pg_largeobject_metadata", "a large object", "oid = 500001"),
  lost("pg_extension", "an extension", "extname = 'hstore'"),
  lost("pg_event_trigger", "an event trigger", "evtname = 'watch_ddl'", { withoutReceipt: null }),
  lost("pg_policy", "a policy", "polname = 'readers'", { withoutReceipt: null }),
  lost("pg_publication_rel", "a published table", `prrelid = ${rel("lab.ledger")}`, { withoutReceipt: null }),
  lost("pg_publication", "a publication", "pubname = 'news'"),
  lost("pg_default_acl", "default privileges", "defaclrole = 'lab_owner'::regrole", { withoutReceipt: null }),
  lost("pg_description", "a comment", `objoid = ${rel("lab.ledger")}`, { withoutReceipt: null }),
  lost("pg_shdescription", "a role's comment", "objoid = 'lab_owner'::regrole", { withoutReceipt: null }),
  lost("pg_foreign_server", "a foreign server", "srvname = 'elsewhere'"),
  lost("pg_foreign_data_wrapper", "a foreign data wrapper", "fdwname = 'postgres_fdw'"),
  lost("pg_foreign_table", "a foreign table", `ftrelid = ${rel("shop.elsewhere_customers")}`),
  lost("pg_user_mapping", "a user mapping", "true", { withoutReceipt: null }),
  lost("pg_ts_config", "a text search configuration", "cfgname = 'plainly'"),
  lost("pg_ts_config_map", "a text search configuration's rules", "mapcfg = 'lab.plainly'::regconfig", {
    withoutReceipt: null,
  }),
  lost("pg_ts_dict", "a dictionary in use", "dictname = 'simple'"),

  wrong(
    "pg_proc: the library of a C function is not there",
    "UPDATE pg_catalog.pg_proc SET probin = '$libdir/lab_lost' WHERE proname = 'shout'",
    { caughtBy: [...libraries, ...objects] },
  ),
  wrong(
    "pg_proc: the library of an extension is not there",
    "UPDATE pg_catalog.pg_proc SET probin = '$libdir/lab_lost' WHERE probin = '$libdir/ltree'",
    { caughtBy: [...libraries, ...objects, ...CATCHERS.indexes], atLeast: true },
  ),
  wrong(
    "pg_proc: a library without the function",
    "UPDATE pg_catalog.pg_proc SET prosrc = 'lab_lost' WHERE proname = 'shout'",
    { caughtBy: [...libraries, ...objects] },
  ),
  wrong(
    "pg_proc: a function of PostgreSQL's own with another source",
    "UPDATE pg_catalog.pg_proc SET prosrc = 'lab_lost' WHERE proname = 'initcap'",
    { withoutReceipt: null },
  ),
  wrong(
    "pg_proc: a function in a language that is not there",
    `UPDATE pg_catalog.pg_proc SET prolang = ${NOBODY} WHERE proname = 'twice'`,
  ),
  wrong(
    "pg_extension: another version",
    "UPDATE pg_catalog.pg_extension SET extversion = '0.9' WHERE extname = 'hstore'",
    { caughtBy: [...objects, "extensions", ...libraries], withoutReceipt: null },
  ),
  wrong(
    "pg_collation: made with another version of ICU",
    "UPDATE pg_catalog.pg_collation SET collversion = '1.2.3' WHERE collname = 'swedish'",
    { caughtBy: [...collations, ...objects] },
  ),
  wrong(
    "pg_database: made with another version of the C library",
    "UPDATE pg_catalog.pg_database SET datcollversion = '1.2' WHERE datname = 'app'",
    { caughtBy: [...collations, ...objects] },
  ),
  wrong(
    "pg_attribute: a column of another type",
    `UPDATE pg_catalog.pg_attribute SET atttypid = 'int8'::regtype WHERE attrelid = ${rel("lab.ledger")} AND attname = 'account'`,
  ),
  wrong(
    "pg_attribute: a column of a type that is not there",
    `UPDATE pg_catalog.pg_attribute SET atttypid = ${NOBODY} WHERE attrelid = ${rel("lab.ledger")} AND attname = 'account'`,
  ),
  wrong(
    "pg_attribute: NOT NULL is lost",
    `UPDATE pg_catalog.pg_attribute SET attnotnull = false WHERE attrelid = ${rel("lab.ledger")} AND attname = 'account'`,
    { withoutReceipt: null },
  ),
  wrong(
    "pg_class: a table with a column too many",
    `UPDATE pg_catalog.pg_class SET relnatts = relnatts + 1 WHERE oid = ${rel("lab.plain")}`,
  ),
  wrong(
    "pg_class: a table that claims to hold no data",
    `UPDATE pg_catalog.pg_class SET relispopulated = false WHERE oid = ${rel("lab.plain")}`,
  ),
  wrong(
    "pg_class: a table without its TOAST table",
    `UPDATE pg_catalog.pg_class SET reltoastrelid = 0 WHERE oid = ${rel("lab.papers")}`,
    {
      caughtBy: [...catalogs, ...CATCHERS.rows, ...CATCHERS.data, ...CATCHERS.heap, ...objects],
    },
  ),
  wrong(
    "pg_class: a table with another's file",
    `UPDATE pg_catalog.pg_class SET relfilenode = (SELECT relfilenode FROM pg_catalog.pg_class WHERE oid = ${rel("lab.plain")}) WHERE oid = ${rel("lab.ledger")}`,
    { caughtBy: [...catalogs, ...CATCHERS.files, ...CATCHERS.indexes, ...CATCHERS.data] },
  ),
  wrong(
    "pg_class: an owner that is not there",
    `UPDATE pg_catalog.pg_class SET relowner = ${NOBODY} WHERE oid = ${rel("lab.plain")}`,
  ),
  wrong(
    "pg_class: a schema that is not there",
    `UPDATE pg_catalog.pg_class SET relnamespace = ${NOBODY} WHERE oid = ${rel("lab.plain")}`,
  ),
  wrong(
    "pg_class: a table that says that it has no index",
    `UPDATE pg_catalog.pg_class SET relhasindex = false WHERE oid = ${rel("lab.ledger")}`,
  ),
  wrong(
    "pg_class: a frozen transaction ID of the future",
    `UPDATE pg_catalog.pg_class SET relfrozenxid = '900000' WHERE oid = ${rel("lab.plain")}`,
    {
      caughtBy: [...catalogs, ...CATCHERS.heap, ...CATCHERS.transactions],
    },
  ),
  wrong(
    "pg_constraint: a key over columns that are not there",
    "UPDATE pg_catalog.pg_constraint SET conkey = '{77}' WHERE conname = 'ledger_account'",
  ),
  wrong(
    "pg_index: an index over a column that is not there",
    `UPDATE pg_catalog.pg_index SET indkey = '77' WHERE indexrelid = ${rel("lab.things_hash")}`,
  ),
  wrong(
    "pg_type: an input function that is not there",
    `UPDATE pg_catalog.pg_type SET typinput = ${NOBODY} WHERE typname = 'macaddr8'`,
  ),
  wrong(
    "pg_sequence: an increment of zero",
    `UPDATE pg_catalog.pg_sequence SET seqincrement = 0 WHERE seqrelid = ${rel("lab.tickets")}`,
  ),
  {
    name: "pg_proc of the second database: a bit flipped, checksum stale",
    damage: async (instance) =>
      changeBlock(await instance.relation("pg_catalog.pg_proc", ODD_DATABASE).file, 40, "stale", (page) => {
        const item = liveItems(page)[0];
        flip(page, (item?.offset ?? 4000) + 100);
      }),
    caughtBy: [...checksums, ...CATCHERS.rows, ...catalogs, "databases-readable"],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "pg_class: an entry of its index lost, checksum right",
    damage: async (instance) => {
      const [row] = await instance.sql("SELECT pg_relation_filepath('pg_catalog.pg_class_relname_nsp_index') AS path");
      await changeBlock(await instance.file(String(row?.path)), 1, "right", (page) => {
        const list = items(page);
        const item = list[Math.floor(list.length / 2)];
        if (item === undefined) throw new Error("the index is too small");
        page.writeUInt32LE(((item.length << 17) | (3 << 15) | item.offset) >>> 0, 24 + (item.number - 1) * 4);
      });
    },
    caughtBy: [...CATCHERS.indexes, ...catalogs],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "pg_largeobject: a page lost",
    damage: rowsBySql("DELETE FROM pg_catalog.pg_largeobject WHERE loid = 500003 AND pageno = 4"),
    caughtBy: [...largeObjects, ...objects, ...CATCHERS.data],
    level: "full",
    withoutReceipt: null,
  },
  {
    name: "pg_largeobject: all pages of one lost",
    damage: rowsBySql("DELETE FROM pg_catalog.pg_largeobject WHERE loid = 500003", { atLeast: true }),
    caughtBy: [...largeObjects, ...objects, ...CATCHERS.data],
    level: "full",
    withoutReceipt: null,
  },
  {
    name: "pg_largeobject: a page changed",
    damage: rowsBySql(
      "UPDATE pg_catalog.pg_largeobject SET data = pg_catalog.set_byte(data, 10, 0) WHERE loid = 500003 AND pageno = 2",
    ),
    caughtBy: [...largeObjects, ...objects, ...CATCHERS.data],
    level: "full",
    withoutReceipt: null,
  },
]);
