/** The kinds of damage. */

import type { Kind } from "../kind.ts";
import { catalogKinds } from "./catalogs.ts";
import { controlKinds } from "./control.ts";
import { heapKinds } from "./heap.ts";
import { indexKinds } from "./indexes.ts";
import { mapKinds } from "./maps.ts";
import { objectKinds } from "./objects.ts";
import { recentnessKinds } from "./recentness.ts";
import { rowKinds } from "./rows.ts";
import { soundKinds } from "./sound.ts";
import { toastKinds } from "./toast.ts";
import { transactionKinds } from "./transactions.ts";

export const ALL_KINDS: readonly Kind[] = [
  ...soundKinds,
  ...heapKinds,
  ...toastKinds,
  ...indexKinds,
  ...mapKinds,
  ...transactionKinds,
  ...controlKinds,
  ...catalogKinds,
  ...objectKinds,
  ...rowKinds,
  ...recentnessKinds,
];

/** Of these others of the same sort are in the short run: `--all` tries them too. */
const ONLY_WITH_ALL: readonly RegExp[] = [
  /^heap: (a bit flipped in the second|.*beyond its page|.*partition is missing|the last blocks|another table's|two blocks.*stale)/,
  /^heap: (the file of a table without|a row with more columns)/,
  /^toast: (two blocks|a chunk of another|the last blocks|a block zeroed)/,
  /^(hash|gist|spgist|brin): a bit flipped|^(gin|gist|btree): a block zeroed/,
  /^(btree .partial.|gin .(array|tsvector).|gist .range.|spgist .text.|btree: another index's)/,
  /^the directory of a database|^PG_VERSION of the cluster/,
  /^pg_(attrdef|range|opfamily|opclass|aggregate|conversion|language|auth_members|db_role_setting|partitioned_table): /,
  /^pg_(event_trigger|policy|publication|publication_rel|default_acl|shdescription|user_mapping|ts_\w+): /,
  /^pg_(foreign_data_wrapper|foreign_table|sequence|shdepend|statistic_ext|am|language): /,
  /^pg_proc: (a function of an extension|a function that nobody|.*nothing needs|.*another source|a function in a language)/,
  /^pg_type: (an array|a domain|a table's row|an input)|^pg_class: (a view|a sequence|a schema that|an owner that|a TOAST)/,
  /^pg_constraint: (a check|a domain's|a key over)|^pg_attribute: (a system|a column of an index|a column of a type|NOT NULL)/,
  /^pg_depend: (a sequence's|a constraint's)|^pg_cast: a cast lost|^pg_authid: a member|^pg_rewrite: a rule|^pg_inherits: a child/,
  /^pg_operator: an operator lost|^pg_trigger: a trigger|^pg_index: (a TOAST|an index over)|^pg_largeobject: all pages/,
  /^(a table of the second|a column's type|a foreign key|a primary key|a function) dropped|^a column's type|^a rule dropped/,
  /^(row-level|a grant on|default privileges|a membership|a database's setting|a domain's|an operator|an aggregate)/,
  /^(an event trigger|a publication that|a foreign server's|a statistics|a text search|a sequence (dropped|with)|a storage)/,
  /^one row of (jsonb|a partition|the second)|^a (row of pgbench|partition emptied)|^rows moved|^an identity's/,
  /^heap: (a line|two blocks|page header|the file ends|a row marked as never|a row from)/,
  /^toast: (a chunk with|the file is missing|an index entry)|^free space map/,
  /: a block zeroed$|^gin .(jsonb|trigrams).|^gist .ltree.|^btree .expression.|^btree: (an entry lost|the file is empty|a sibling)/,
  /^pg_xact: the end|^pg_multixact: offsets|^pg_control: (missing|next multixact)|^pg_filenode/,
  /^pg_(am|ts|foreign|description|collation: a|enum|tablespace|extension: an ext|largeobject: a page lost)/,
  /^pg_class: (an index lost|a table that says|a table without)|^pg_proc: a library|^pg_type: an enum|^pg_attribute: a column of another/,
  /^(a column dropped|a check constraint|an index dropped|a function dropped|an owner|a role's|a comment|a cast|a user mapping)/,
  /^(a partition detached|a subscription|a large object dropped|an enum's|a policy|a publication without|a trigger dropped)/,
  /^one (row added|value is)|^the newest table|^rows of a mat|^NULL in|^a generated|^a free|^all markers/,
  /^a later receipt|^with (an empty visibility|a file of somebody)|^without a visibility/,
];

export const isOnlyWithAll = ({ name }: Kind): boolean => ONLY_WITH_ALL.some((pattern) => pattern.test(name));

/** Each sort of damage, in a time that one waits for. */
export const SHORT_RUN: readonly Kind[] = ALL_KINDS.filter((kind) => !isOnlyWithAll(kind));
