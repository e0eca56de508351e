import { describe, expect, test } from "vitest";
import { cached } from "../../../lib/backup-api/cached.ts";

/** Questions that are answered by hand. */
function questions() {
  const open: { resolve(value: string): void; reject(error: Error): void }[] = [];
  const cache = cached(() => new Promise<string>((resolve, reject) => open.push({ resolve, reject })));
  return { cache, open };
}

const later = () => new Promise((resolve) => setTimeout(resolve, 5));
const NEVER_OLD = Number.POSITIVE_INFINITY;

describe("an answer that is kept", () => {
  test("is asked for once, however many ask at the same time", async () => {
    const { cache, open } = questions();
    const all = Array.from({ length: 20 }, () => cache.read(1000));
    await later();
    expect(open).toHaveLength(1);
    open[0]?.resolve("a");
    expect((await Promise.all(all)).map(({ value }) => value)).toEqual(Array(20).fill("a"));
  });

  test("is not asked for again while it is new enough", async () => {
    const { cache, open } = questions();
    const first = cache.read(0);
    await later();
    open[0]?.resolve("a");
    await first;
    await later();
    expect((await cache.read(10_000)).value).toBe("a");
    expect(open).toHaveLength(1);
    void cache.read(1).catch(() => {});
    await later();
    expect(open).toHaveLength(2);
  });

  test("a question that was put before this caller's time does not answer it, and two are never asked at once", async () => {
    const { cache, open } = questions();
    const early = cache.read(NEVER_OLD);
    await later();
    const late = cache.read(0);
    await later();
    expect(open).toHaveLength(1);
    open[0]?.resolve("before");
    expect((await early).value).toBe("before");
    await later();
    open[1]?.resolve("after");
    expect((await late).value).toBe("after");
  });

  test("a failure is thrown to all who asked, told, and asked again the next time; the old answer stays", async () => {
    const { cache, open } = questions();
    expect([cache.latest(), cache.failure()]).toEqual([null, null]);
    const first = cache.read(0);
    await later();
    open[0]?.resolve("a");
    await first;
    const failing = [cache.read(0), cache.read(0)];
    await later();
    open[1]?.reject(new Error("no repository"));
    // The second one may have asked anew.
    await later();
    open[2]?.reject(new Error("no repository"));
    for (const one of failing) await expect(one).rejects.toThrow("no repository");
    expect(cache.failure()).toBe("no repository");
    expect(cache.latest()?.value).toBe("a");
    const again = cache.read(NEVER_OLD);
    await later();
    open.at(-1)?.resolve("b");
    expect((await again).value).toBe("b");
    expect(cache.failure()).toBeNull();
  });
});
