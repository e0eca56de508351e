import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Stopwatch } from "../../../lib/checks/stopwatch.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const after = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

test("counts work, and what is done while waiting, but not the wait", async () => {
  const watch = new Stopwatch(null, () => {});
  await vi.advanceTimersByTimeAsync(10);
  const waits = watch.except(async () => {
    await after(100);
    await Promise.all([watch.during(() => after(20)), watch.during(() => after(30)), watch.except(() => after(100))]);
    await after(1000);
  });
  await vi.advanceTimersByTimeAsync(1200);
  await waits;
  await vi.advanceTimersByTimeAsync(5);
  expect(watch.elapsedMs).toBe(45);
  watch.end();
  await vi.advanceTimersByTimeAsync(5);
  expect(watch.elapsedMs).toBe(45);
});

test("the limit is for what counts", async () => {
  const onLimit = vi.fn();
  const watch = new Stopwatch(50, onLimit);
  await vi.advanceTimersByTimeAsync(30);
  const waits = watch.except(() => after(1000));
  await vi.advanceTimersByTimeAsync(1000);
  await waits;
  await vi.advanceTimersByTimeAsync(19);
  expect(onLimit).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(onLimit).toHaveBeenCalledOnce();
});

test("nothing is called after the end, and what fails is over too", async () => {
  const onLimit = vi.fn();
  const watch = new Stopwatch(50, onLimit);
  await expect(watch.except(() => watch.during(() => Promise.reject(new Error("failed"))))).rejects.toThrow("failed");
  watch.end();
  await expect(watch.during(() => Promise.resolve(1))).resolves.toBe(1);
  await vi.advanceTimersByTimeAsync(100);
  expect(onLimit).not.toHaveBeenCalled();
});
