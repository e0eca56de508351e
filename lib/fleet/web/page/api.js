// Requests to the scheduler that served this page.

const KEY = "patroni-restore-fleet-token";
const LIMIT_MS = 15000;

export const setToken = (token) => sessionStorage.setItem(KEY, token);
export const hasToken = () => sessionStorage.getItem(KEY) !== null;

export class Refused extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint ?? null;
  }
}

async function request(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  let response;
  let text;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(LIMIT_MS) });
    text = await response.text();
  } catch (error) {
    throw new Error(error.name === "TimeoutError" ? `no answer within ${LIMIT_MS / 1000} seconds` : "no connection");
  }
  const body = parsed(text);
  if (response.ok && body !== undefined) return body;
  // A proxy in between has words of its own.
  throw new Refused(response.status, body?.error ?? `it answered ${response.status}`, body?.hint);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export const getFleet = () => request("services");
export const getService = (id) => request(`service?id=${encodeURIComponent(id)}`);
export const getTest = (id) => request(`tests/${encodeURIComponent(id)}`);
export const askForTest = (service) => request("tests", { method: "POST", body: JSON.stringify({ service }) });
