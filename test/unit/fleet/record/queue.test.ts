import { expect, test } from "vitest";
import { writeQueue } from "../../../../lib/fleet/record/queue.ts";

const retryMs = { first: 1, longest: 2 };
const settle = () => new Promise((resolve) => setTimeout(resolve, 20));

/** What writes fails as long as `problem` is set. */
function queueOf() {
  const state = { problem: null as string | null, written: [] as string[], failures: [] as string[] };
  const queue = writeQueue<string>({
    retryMs,
    async write(item) {
      if (item.startsWith("bad")) return new Error(`${item} is refused`);
      if (state.problem !== null) throw new Error(state.problem);
      state.written.push(item);
      return "written";
    },
    onFailure: (error, waiting) => state.failures.push(`${(error as Error).message}, ${waiting} wait`),
  });
  return Object.assign(queue, { state });
}

test("what is added while nothing can be written is written later, once and in order", async () => {
  const queue = queueOf();
  queue.state.problem = "away";
  const added = ["a", "b", "c", "a"].map((item) => queue.add(item, item));
  await settle();
  expect(queue.size()).toBe(3);
  expect(queue.state.failures).toEqual(["away, 3 wait"]);
  queue.state.problem = null;
  await Promise.all(added);
  expect(queue.state.written).toEqual(["a", "b", "c"]);
  expect(queue.size()).toBe(0);
});

test("each reason why it fails is told once in a row", async () => {
  const queue = queueOf();
  queue.state.problem = "away";
  const added = queue.add("a", "a");
  await settle();
  queue.state.problem = "disk full";
  await settle();
  queue.state.problem = null;
  await added;
  expect(queue.state.failures).toEqual(["away, 1 wait", "disk full, 1 wait"]);
});

test("what is refused for good is told to who added it, and holds up nothing", async () => {
  const queue = queueOf();
  const bad = queue.add("bad", "bad");
  const good = queue.add("good", "good");
  await expect(bad).rejects.toThrow("bad is refused");
  await good;
  expect(queue.state.written).toEqual(["good"]);
});

test("closing writes what can be written and tells of the rest", async () => {
  const queue = queueOf();
  const written = queue.add("a", "a");
  await queue.close(1000);
  await written;
  await expect(queue.add("b", "b")).rejects.toThrow("the record is closed");

  const away = queueOf();
  away.state.problem = "away";
  const lost = away.add("error of test t1", "x");
  const told = expect(lost).rejects.toThrow("the record was closed before error of test t1 was written");
  await away.close(10);
  await told;
  expect(away.size()).toBe(0);
});

test("one that is added after everything was written is written too", async () => {
  const queue = queueOf();
  for (const item of ["a", "b", "c"]) {
    await queue.add(item, item);
    await settle();
  }
  expect(queue.state.written).toEqual(["a", "b", "c"]);
});
