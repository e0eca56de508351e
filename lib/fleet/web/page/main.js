// What is shown, and when it is asked for again.

import { getFleet, getService, getTest, hasToken, Refused, setToken } from "./api.js";
import { find, setText } from "./dom.js";
import { showFleet, startOverview } from "./overview.js";
import { showService, startService } from "./service.js";
import { clock, keepTime } from "./words.js";

const EVERY_MS = 5000;

/** `#/service/databases%2Fshop/test/0a1b2c3d` */
function place() {
  const [, kind, service, , test] = location.hash.split("/").map(decoded);
  return kind === "service" && service ? { service, test: test ?? null } : { service: null, test: null };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

let timer;
/** Answers to older questions are not shown any more. */
let turn = 0;
let lastAnswer = null;

async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  try {
    const { service, test } = place();
    const answer = service === null ? await getFleet() : await serviceAnd(service, test);
    if (mine !== turn) return;
    lastAnswer = answer.now;
    reached();
    keepTime(answer.now);
    if (service === null) showFleet(answer);
    else showService(answer);
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof Refused && error.status === 401) return askForToken(error);
    away(error);
  }
  timer = setTimeout(() => {
    // Whoever looks at it again asks at once.
    if (!document.hidden) refresh();
  }, EVERY_MS);
}

async function serviceAnd(id, testId) {
  const [service, test] = await Promise.all([
    getService(id),
    testId === null ? null : getTest(testId).catch((error) => ({ id: testId, problem: error.message })),
  ]);
  return { now: service.now, service, test };
}

function reached() {
  find("away").hidden = true;
  find("login").hidden = true;
  document.querySelector("main").hidden = false;
  document.body.classList.remove("stale");
  setText(find("state"), `as of ${new Date(lastAnswer).toLocaleTimeString()}`);
}

function away(error) {
  const isAnswer = error instanceof Refused;
  const hint = isAnswer && error.hint ? ` (${error.hint})` : "";
  const what = isAnswer ? `The scheduler says: ${error.message}${hint}.` : `The scheduler is away: ${error.message}.`;
  const since = lastAnswer === null ? "" : ` What is shown is of ${clock(lastAnswer)}.`;
  setText(find("away"), `${what}${since} It is asked again every ${EVERY_MS / 1000} seconds.`);
  find("away").hidden = false;
  document.body.classList.toggle("stale", lastAnswer !== null);
}

function askForToken({ message }) {
  find("away").hidden = true;
  document.querySelector("main").hidden = true;
  find("login").hidden = false;
  setText(find("login-why"), hasToken() ? `${message}.` : "It is kept until this tab is closed.");
  find("token").value = "";
  find("token").focus();
}

find("login").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(find("token").value.trim());
  refresh();
});

let scrolledTo = 0;
let shown = null;

/** The overview is only hidden meanwhile, so that its filter and its place are there on the way back. */
function go() {
  const { service } = place();
  const isNew = service !== shown;
  if (shown === null && service !== null) scrolledTo = window.scrollY;
  find("overview").hidden = service !== null;
  find("service").hidden = service === null;
  document.title = service === null ? "Restore tests" : `${service} · Restore tests`;
  if (service !== null) startService(place());
  if (isNew) window.scrollTo(0, service === null ? scrolledTo : 0);
  if (isNew && service !== null) find("service-name").focus({ preventScroll: true });
  shown = service;
  refresh();
}

window.addEventListener("hashchange", go);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && find("login").hidden) refresh();
});
document.addEventListener("fleet-changed", refresh);
startOverview();
go();
