/** Chromium without a window, and all that it complains about. */

import puppeteer, { type Browser, type Page } from "puppeteer-core";

const CHROMIUM = "/usr/bin/chromium";

/** What its sandbox needs is missing for root and in most containers; only pages of ours are opened. */
export const openBrowser = (): Promise<Browser> =>
  puppeteer.launch({
    executablePath: CHROMIUM,
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--lang=en-GB"],
    env: { ...process.env, TZ: "UTC", LANG: "C.UTF-8" },
  });

export interface WatchedPage {
  page: Page;
  /** Errors of scripts, of the console, of the content security policy, and dialogs, which only injected scripts open. */
  complaints: string[];
}

export async function openPage(browser: Browser, options: { theme?: "light" | "dark"; width?: number } = {}) {
  // With a session storage of its own.
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(`error: ${(error as Error).message}`));
  page.on("console", (message) => {
    if (["error", "warn", "issue"].includes(message.type())) complaints.push(`console: ${message.text()}`);
  });
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: options.theme ?? "light" }]);
  await page.setViewport({ width: options.width ?? 1280, height: 900 });
  return { page, complaints } satisfies WatchedPage;
}
