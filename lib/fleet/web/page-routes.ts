/** The files of the page, each under its own address: the policy of the page allows no script or style but these. */

import type { Route } from "../../http/route.ts";
import api from "./page/api.js?raw";
import dom from "./page/dom.js?raw";
import html from "./page/index.html?raw";
import main from "./page/main.js?raw";
import overview from "./page/overview.js?raw";
import css from "./page/page.css?raw";
import plots from "./page/plots.js?raw";
import service from "./page/service.js?raw";
import test from "./page/test.js?raw";
import words from "./page/words.js?raw";

const SCRIPTS = { api, dom, main, overview, plots, service, test, words };

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join("; ");

/** Public: they hold nothing of the fleet, which the page asks for with the token. */
export function pageRoutes(): Route[] {
  const file = (path: string, summary: string, type: string, text: string): Route => ({
    method: "GET",
    path,
    summary,
    answers: { 200: type },
    isPublic: true,
    handle: () => ({
      status: 200,
      text,
      contentType: `${type}; charset=utf-8`,
      headers: { "Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer" },
    }),
  });
  return [
    file("/", "The fleet for people", "text/html", html),
    file("/page/page.css", "Style of the page", "text/css", css),
    ...Object.entries(SCRIPTS).map(([name, text]) =>
      file(`/page/${name}.js`, "Script of the page", "text/javascript", text),
    ),
  ];
}
