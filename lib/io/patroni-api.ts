/** Patroni's REST API: https://patroni.readthedocs.io/en/latest/rest_api.html */

export interface PatroniStatus {
  /** `running custom bootstrap script`, `starting`, `running`, … */
  state: string;
  /** `master` before Patroni 4.0, `primary` since; `replica`; `uninitialized`. */
  role: string;
  /** Absent while it bootstraps. */
  timeline?: number | undefined;
  /**
   * With the leader lock, which Patroni takes at the very end of a bootstrap. `/health` and, before 4.1, `/readiness` are 200
   * already while post_bootstrap runs.
   */
  isLeader: boolean;
}

/** Patroni answers from memory; a request that takes longer than this is a request without answer. */
const LIMIT_MS = 3000;

/**
 * `GET /primary`: its status says who leads, its body is that of `GET /patroni`. Null when there is no answer (not started
 * yet, or gone).
 */
export async function readStatus(address: string, signal?: AbortSignal): Promise<PatroniStatus | null> {
  const response = await get(`http://${address}/primary`, signal);
  if (response === null) return null;
  try {
    const { state = "unknown", role = "unknown", timeline } = JSON.parse(response.text) as Partial<PatroniStatus>;
    return { state, role, timeline, isLeader: response.status === 200 };
  } catch {
    return null;
  }
}

async function get(url: string, signal: AbortSignal | undefined): Promise<{ status: number; text: string } | null> {
  try {
    const limit = AbortSignal.timeout(LIMIT_MS);
    const response = await fetch(url, { signal: signal === undefined ? limit : AbortSignal.any([signal, limit]) });
    return { status: response.status, text: await response.text() };
  } catch {
    signal?.throwIfAborted();
    return null;
  }
}
