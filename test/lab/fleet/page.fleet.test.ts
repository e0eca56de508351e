/** The page of the fleet in a real browser, served by the real application over a real socket. */

import type { Browser, Page } from "puppeteer-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { RestoreError } from "../../../lib/errors.ts";
import type { RunningTest } from "../../../lib/fleet/store.ts";
import type { FleetView, ServiceView } from "../../../lib/fleet/view.ts";
import type { FleetApi } from "../../../lib/fleet/web/api.ts";
import { createFleetApp } from "../../../lib/fleet/web/routes.ts";
import { type HttpServer, startHttpServer } from "../../../lib/io/http-server.ts";
import {
  EVIL,
  fleet,
  HOUR,
  healthy,
  history,
  manyServices,
  NOW,
  pastTest,
  report,
  SERVICES,
} from "../../fixtures/fleet.ts";
import { fakeLog } from "../../unit/backup-api/samples.ts";
import { openBrowser, openPage, type WatchedPage } from "./browser.ts";

const TOKEN = "0123456789abcdef0123456789abcdef";

let browser: Browser;
let server: HttpServer | null;
let url: string;
let view: FleetView;
let tokens: (() => readonly string[]) | null;
let wanted: string[];
let recordProblem: string | null;
const pages: WatchedPage[] = [];

const api: FleetApi = {
  view: () => view,
  history: {
    async tests(service, limit) {
      if (recordProblem !== null) throw new RestoreError("SOURCE_UNREACHABLE", recordProblem);
      const one = view.services.find(({ service: { id } }) => id === service);
      return one === undefined ? [] : history(one, 24).slice(0, limit);
    },
    async test(id) {
      const past = pastTest(view.services[0] as ServiceView, id, "unhealthy", HOUR);
      const statuses = (["requested", "marking", "restoring", "recovering", "verifying", "unhealthy"] as const).map(
        (status, n): { status: RunningTest["statuses"][number]; at: Date } => ({
          status,
          at: new Date(NOW.getTime() - HOUR + n * 12_000),
        }),
      );
      return { ...past, statuses, report: report() };
    },
  },
  async want(service) {
    if (recordProblem !== null) throw new RestoreError("SOURCE_UNREACHABLE", recordProblem);
    wanted.push(service);
  },
  async countBackup() {},
  explain: (id) => [view.services.find(({ service }) => service.id === id)?.decision.reason ?? ""],
  metrics: async () => "",
};

async function serve(port = 0): Promise<void> {
  const app = createFleetApp({ api, tokens: null, rateLimit: 10_000, version: "1.2.3", log: fakeLog() });
  const guarded = createFleetApp({ api, tokens: () => [TOKEN], rateLimit: 10_000, version: "1.2.3", log: fakeLog() });
  server = await startHttpServer({
    listen: { host: "127.0.0.1", port },
    tls: null,
    handle: (request, client) => (tokens === null ? app : guarded)(request, client),
    onTlsProblem() {},
  });
  url = `http://127.0.0.1:${server.port}/`;
}

beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(() => browser?.close());
beforeEach(async () => {
  view = fleet([healthy(EVIL, HOUR, { stanza: "</td><script>alert(2)</script>" }), ...SERVICES]);
  [tokens, wanted, recordProblem] = [null, [], null];
  await serve();
});
afterEach(async () => {
  await Promise.all(pages.splice(0).map(({ page }) => page.browserContext().close()));
  await server?.close(0);
});

async function open(hash = "", options: Parameters<typeof openPage>[1] = {}): Promise<WatchedPage> {
  const opened = await openPage(browser, options);
  pages.push(opened);
  await opened.page.goto(url + hash);
  return opened;
}

async function openFleet(options: Parameters<typeof openPage>[1] = {}): Promise<WatchedPage> {
  const opened = await open("", options);
  await opened.page.waitForSelector("#services tbody tr");
  return opened;
}

const names = (page: Page) => page.$$eval("#services tbody th a", (links) => links.map((link) => link.textContent));
const textOf = (page: Page, selector: string) => page.$eval(selector, (element) => element.textContent ?? "");
/** Of the row of a service, by column. */
const rowOf = (page: Page, id: string) =>
  page.$$eval(
    "#services tbody tr",
    (rows, wanted) => {
      const row = rows.find((one) => one.querySelector("a")?.textContent === wanted);
      const cells = [...(row?.children ?? [])] as { dataset: Record<string, string>; textContent: string }[];
      return Object.fromEntries(cells.map((cell) => [cell.dataset.column, cell.textContent]));
    },
    id,
  );
/** Text, because the tests' own code knows no DOM. */
const evaluated = <T>(page: Page, expression: string) => page.evaluate(expression) as Promise<T>;
/** In the window: what is above it may need another line. */
const placeOfFocus = (page: Page) =>
  evaluated<[string, number]>(
    page,
    "[document.activeElement.textContent, Math.round(document.activeElement.getBoundingClientRect().top)]",
  );
const sortBy = (page: Page, column: string) => page.click(`#services th[data-column="${column}"] button`);
const sorted = (page: Page, column: string) =>
  page.$eval(`#services th[data-column="${column}"]`, (th) => th.getAttribute("aria-sort"));

describe("the fleet at a glance", () => {
  test("counts, and a row for each service that says what is proven, what failed and what comes next", async () => {
    const { page, complaints } = await openFleet();
    const counts = await page.$$eval("#counts button:not([hidden])", (all) => all.map((one) => one.textContent));
    expect(counts).toEqual([
      "10 services",
      "2 failing",
      "1 inconclusive",
      "1 never tested",
      "6 healthy",
      "2 due",
      "1 in progress",
      "1 paused",
      "1 misconfigured",
    ]);
    expect(await rowOf(page, "databases/billing")).toMatchObject({
      service: "databases/billingshared",
      verdict: "unhealthy3 times in a row",
      proven: expect.stringMatching(/^4d\b.* agoshould be every 1d$/),
      rto: "1min 4s",
      error: "1 of 41 checks failed: heap-sound",
    });
    expect(await rowOf(page, "archive/new")).toMatchObject({
      verdict: "never tested",
      proven: "never",
      next: "dueit was never tested",
      error: "",
    });
    expect((await rowOf(page, "web/sessions")).next).toMatch(/^recovering for /);
    expect((await rowOf(page, "web/misspelt")).error).toContain('"1 dya"');
    expect(complaints).toEqual([]);
  });

  test("the worst first, then as the header says", async () => {
    const { page } = await openFleet();
    expect((await names(page)).slice(0, 4)).toEqual([
      "databases/billing",
      "archive/ledger",
      "archive/users",
      "archive/new",
    ]);
    expect(await sorted(page, "verdict")).toBe("ascending");
    await sortBy(page, "service");
    const ascending = await names(page);
    expect(ascending).toEqual([...ascending].sort((a, b) => (a ?? "").localeCompare(b ?? "")));
    expect(await sorted(page, "service")).toBe("ascending");
    expect(await sorted(page, "verdict")).toBe(null);
    await sortBy(page, "service");
    expect(await names(page)).toEqual(ascending.toReversed());
    await sortBy(page, "proven");
    expect((await names(page))[0]).toBe("archive/new");
  });

  test("filters by text and by counter, and keeps both when it is asked again", async () => {
    const { page } = await openFleet();
    await page.type("#filter", "archive");
    expect(await names(page)).toEqual(["archive/ledger", "archive/users", "archive/new"]);
    expect(await textOf(page, "#shown")).toBe("3 of 10");
    await page.click('[data-count="failing"]');
    expect(await names(page)).toEqual(["archive/ledger"]);
    view = fleet([...view.services, healthy("archive/second", HOUR)]);
    await page.waitForFunction('document.querySelector("#counts b")?.textContent === "11"');
    expect(await names(page)).toEqual(["archive/ledger"]);
    await page.click('[data-count="failing"]');
    expect(await names(page)).toContain("archive/second");
    await page.type("#filter", " nothing");
    expect(await textOf(page, "#nothing")).toContain("No service is like that");
  });

  test("says what is wrong with the fleet itself", async () => {
    view = fleet(SERVICES, {
      problems: ["the record is away: no connection"],
      isPaused: true,
      leads: false,
      pending: 3,
    });
    const { page } = await openFleet();
    expect(await page.$$eval("#problems li", (all) => all.map((one) => one.textContent))).toEqual([
      "the record is away: no connection",
      "the fleet is paused: no test starts",
      "3 changes of status wait for the record",
    ]);
    expect(await textOf(page, "#state")).toContain("by a standby");
  });

  test("without any service it says so", async () => {
    view = fleet([]);
    const { page } = await open();
    await page.waitForSelector("#nothing:not([hidden])");
    expect(await textOf(page, "#nothing")).toBe("The watch knows no service yet.");
  });

  test("names that look like HTML are names", async () => {
    const { page, complaints } = await openFleet();
    expect(await names(page)).toContain(EVIL);
    expect((await rowOf(page, EVIL)).service).toContain("</td><script>alert(2)</script>");
    expect(await page.$("img, #services script")).toBe(null);
    expect(complaints).toEqual([]);
  });

  test("a thousand services, refreshed without losing focus and place", async () => {
    view = fleet(manyServices(1000));
    const { page, complaints } = await openFleet();
    expect(await names(page)).toHaveLength(1000);
    await page.focus("#services tbody tr:nth-child(500) a");
    const before = await placeOfFocus(page);
    expect(await evaluated<number>(page, "window.scrollY")).toBeGreaterThan(1000);
    view = fleet([...view.services, healthy("zzz", 0)]);
    await page.waitForFunction('document.querySelector("#counts b")?.textContent === "1,001"');
    expect(await placeOfFocus(page)).toEqual(before);
    expect(complaints).toEqual([]);
  });
});

describe("one service", () => {
  const openService = async (id: string, options: Parameters<typeof openPage>[1] = {}) => {
    const opened = await open(`#/service/${encodeURIComponent(id)}`, options);
    await opened.page.waitForSelector("#service .facts:not([hidden])");
    return opened;
  };

  test("is reached from the table and left to the same place of it", async () => {
    const { page, complaints } = await openFleet();
    await page.type("#filter", "databases");
    await page.click("#services tbody tr:nth-child(1) a");
    await page.waitForSelector("#service .facts:not([hidden])");
    expect(await textOf(page, "#service-name")).toBe("databases/billing");
    expect(await evaluated(page, "document.activeElement?.id")).toBe("service-name");
    expect(await page.title()).toContain("databases/billing");
    await page.goBack();
    await page.waitForSelector("#overview:not([hidden])");
    expect(await names(page)).toHaveLength(3);
    expect(complaints).toEqual([]);
  });

  test("says why, with error and hint, and shows no connection setting", async () => {
    const { page } = await openService("databases/billing");
    const text = await textOf(page, "#service");
    expect(text).toContain("the last test was unhealthy; tried again after 4h");
    expect(text).toContain("UNHEALTHY (20)1 of 41 checks failed: heap-soundHint: look at the checks.");
    expect(text).toContain("after 3 new backups");
    expect(await page.content()).not.toContain("secret");
  });

  test("plots how long restores took, a bar for each test and a piece for each phase, and how old the proof was", async () => {
    const { page } = await openService("databases/shop");
    const labels = await page.$$eval("#service svg", (all) => all.map((one) => one.getAttribute("aria-label")));
    expect(labels).toEqual([
      expect.stringMatching(/^Of the last 24 tests 2\d restored: the newest took 1min 4s, the longest 1min 4s\.$/),
      expect.stringMatching(/^The proof is .* old; it was .* old at most, and the interval is 1d\.$/),
    ]);
    expect(await page.$$("#service .bar")).toHaveLength(24);
    const heights = await page.$$eval("#service rect.restore", (all) =>
      all.map((one) => Number(one.getAttribute("height"))),
    );
    expect(heights.at(-1)).toBeGreaterThan(heights[0] as number);
    expect(await page.$$eval("figure:first-child .legend li", (all) => all.map((one) => one.textContent))).toEqual([
      "preflight",
      "restore",
      "recovery",
      "promote",
      "detach",
      "verify",
    ]);
  });

  test("has its tests, and of one its statuses, and the checks that failed with their hints", async () => {
    const { page, complaints } = await openService("databases/shop");
    const rows = await page.$$("#service .history tbody tr");
    expect(rows).toHaveLength(24);
    await page.click("#service .history tbody tr:nth-child(2) a");
    await page.waitForSelector("#service .checks");
    const text = await textOf(page, "#service .test");
    expect(text).toContain("1 of 4 checks passed, 1 not asked for.");
    expect(text).toContain(`heap-soundtable ${EVIL} has 2 broken pagesHint: restore an older backup and compare.`);
    expect(text).not.toContain("marker-present");
    const statuses = await page.$$eval("#service .test tbody tr", (all) => all.map((one) => one.textContent));
    expect(statuses).toHaveLength(6);
    expect(statuses[2]).toMatch(/^restoring.*12\.0s$/);
    expect(complaints).toEqual([]);
  });

  test("a test in progress shows how far it is, and no other can be asked for", async () => {
    const { page } = await openService("web/sessions");
    expect(await textOf(page, "#service .progress [aria-current=step]")).toMatch(/^recovering for /);
    expect(await page.$eval("#service button", (button) => (button as unknown as { disabled: boolean }).disabled)).toBe(
      true,
    );
  });

  test("Test now asks for a test of this service", async () => {
    const { page, complaints } = await openService(EVIL);
    await page.click("#service button");
    await page.waitForFunction('document.querySelector("#service .said")?.textContent !== ""');
    expect(await textOf(page, "#service .said")).toContain("It is asked for");
    expect(wanted).toEqual([EVIL]);
    expect(complaints).toEqual([]);
  });

  test("without the record it shows what is known, and says why no test can be asked for", async () => {
    recordProblem = "the record cannot be reached: timeout";
    const { page } = await openService("databases/shop");
    expect(await textOf(page, "#service .trouble")).toContain(recordProblem);
    await page.click("#service button");
    await page.waitForSelector("#service .said.bad");
    expect(await textOf(page, "#service .said")).toBe(`No test was asked for: ${recordProblem}.`);
  });

  test("one that is gone is called so", async () => {
    const { page } = await open("#/service/nobody");
    await page.waitForSelector("#away:not([hidden])");
    expect(await textOf(page, "#away")).toContain('there is no service "nobody"');
  });
});

describe("tokens", () => {
  test("it is asked for, kept for this tab, and sent with every request", async () => {
    tokens = () => [TOKEN];
    const { page } = await open();
    await page.waitForSelector("#login:not([hidden])");
    expect(await evaluated(page, "document.activeElement?.id")).toBe("token");
    await page.type("#token", "wrong-wrong-wrong-wrong");
    await page.keyboard.press("Enter");
    await page.waitForFunction('document.querySelector("#login-why")?.textContent === "the token is not valid."');
    expect(await page.$("#services tbody tr")).toBe(null);
    await page.type("#token", TOKEN);
    await page.keyboard.press("Enter");
    await page.waitForSelector("#services tbody tr");
    await page.reload();
    await page.waitForSelector("#services tbody tr");
    expect(page.url()).not.toContain(TOKEN);
  });
});

test("a scheduler that is away is said so, what was known stays, and its return is noticed", async () => {
  const { page } = await openFleet();
  const port = server?.port as number;
  await server?.close(0);
  await page.waitForSelector("#away:not([hidden])");
  expect(await textOf(page, "#away")).toMatch(/^The scheduler is away: no connection\. What is shown is of .*\./);
  expect(await names(page)).toHaveLength(10);
  await serve(port);
  await page.waitForSelector("#away[hidden]");
});

describe.each(["light", "dark"] as const)("%s", (theme) => {
  test.each([1440, 900, 390])("%d pixels wide: nothing is cut off, and text is readable", async (width) => {
    const { page } = await openFleet({ theme, width });
    await shoot(page, `fleet-${theme}-${width}`);
    expect(await overflow(page)).toBeLessThanOrEqual(width);
    await page.goto(`${url}#/service/${encodeURIComponent("databases/billing")}/test/00000001`);
    await page.waitForSelector("#service .checks");
    await page.waitForSelector("#service svg");
    await shoot(page, `service-${theme}-${width}`);
    expect(await overflow(page)).toBeLessThanOrEqual(width);
    const [text, back] = await evaluated<string[]>(
      page,
      "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]",
    );
    expect(Math.abs(brightness(text) - brightness(back))).toBeGreaterThan(400);
  });
});

const brightness = (color = "") => (color.match(/\d+/g) ?? []).slice(0, 3).reduce((sum, n) => sum + Number(n), 0);

const overflow = (page: Page) => evaluated<number>(page, "document.documentElement.scrollWidth");

/** For looking at: `FLEET_SCREENSHOTS=/tmp/shots npm run fleet`. */
async function shoot(page: Page, name: string): Promise<void> {
  const directory = process.env.FLEET_SCREENSHOTS;
  if (directory !== undefined) await page.screenshot({ path: `${directory}/${name}.png`, fullPage: true });
}
