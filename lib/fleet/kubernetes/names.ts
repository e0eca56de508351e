/** Labels, annotations and names of the fleet's objects in Kubernetes. */

import { createHash } from "node:crypto";

/** Of everything that people and the fleet write onto objects. */
export const PREFIX = "patroni-restore/";

/** On every object of a restore test: its ID. */
export const TEST_LABEL = `${PREFIX}test`;
/** And its service, as a hash: `namespace/scope` is no value for a label. */
export const SERVICE_LABEL = `${PREFIX}service-hash`;
/** On the StatefulSet: the service's ID in full. */
export const SERVICE_ANNOTATION = `${PREFIX}service`;
/** On the StatefulSet: the system identifier that the restore must have; absent without a receipt. */
export const EXPECTED_ANNOTATION = `${PREFIX}system-identifier`;
/** On the StatefulSet: its first pod. Another one would be a second attempt, which proves nothing. */
export const POD_ANNOTATION = `${PREFIX}pod-uid`;
/** On the StatefulSet: why it was started, and until when it may take. */
export const REASON_ANNOTATION = `${PREFIX}reason`;
export const DEADLINE_ANNOTATION = `${PREFIX}deadline-at`;
/** On the StatefulSet: since when it is cancelled. */
export const CANCELLED_ANNOTATION = `${PREFIX}cancelled-at`;
/** On the StatefulSet: kept for a person. */
export const KEPT_LABEL = `${PREFIX}kept`;
/** On the pod, by its own bootstrap and post-bootstrap: the report so far. */
export const REPORT_ANNOTATION = `${PREFIX}report`;

/** Patroni's `kubernetes.labels` of a restore test; never the services' own. */
export const APPLICATION = "patroni-restore-test";

export const hashOf = (text: string) => createHash("sha256").update(text).digest("hex").slice(0, 16);

/** A StatefulSet's name with `-` and ten characters of a hash is a label of its pods, and a label has 63. */
const NAME_LIMIT = 52;

/** Patroni's scope of a restore test, and the name of its StatefulSet: `<scope>-rt-<id>`. */
export function testScope(scope: string, test: string): string {
  const ending = `-rt-${test}`;
  const plain = scope
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, "-")
    .replace(/^-+/, "");
  if (plain === scope && plain.length + ending.length <= NAME_LIMIT) return plain + ending;
  // Two long names may begin alike.
  const hash = hashOf(scope).slice(0, 6);
  const start = plain.slice(0, NAME_LIMIT - ending.length - hash.length - 1).replace(/-+$/, "");
  return `${start === "" ? "s" : start}-${hash}${ending}`;
}

/** A scope of `testScope`'s form: even without its labels a restore test is never a service. */
export const isTestScope = (scope: string) => /-rt-[0-9a-f]{8}$/.test(scope);
