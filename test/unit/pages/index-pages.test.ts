import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { readBrinPage } from "../../../lib/pages/brin.ts";
import { hasUnboundedKey } from "../../../lib/pages/gist.ts";
import { READERS } from "../../../lib/pages/index-scan.ts";
import { headerProblem, type IndexSink, pagesOf } from "../../../lib/pages/page.ts";
import { CAPTURED, type Captured, captured } from "./captured.ts";

function read({ name, block, bytes }: Captured, method = name.split("-")[0] as string) {
  const seen = { entries: [] as string[], killed: [] as string[], links: [] as number[], broken: [] as string[] };
  const sink: IndexSink = {
    entry: (b, offset, killed) => {
      seen.entries.push(`(${b},${offset})`);
      if (killed) seen.killed.push(`(${b},${offset})`);
    },
    link: (b) => seen.links.push(b),
    broken: (what) => seen.broken.push(what),
  };
  READERS[method]?.(pagesOf(bytes), 0, block, sink);
  return seen;
}

const digest = (tids: string[]) => {
  const numbers = (tid: string) => tid.slice(1, -1).split(",").map(Number) as [number, number];
  const sorted = tids.sort((a, b) => numbers(a)[0] - numbers(b)[0] || numbers(a)[1] - numbers(b)[1]);
  return createHash("md5").update(sorted.join(" ")).digest("hex");
};

describe("the rows that a leaf knows are those that pageinspect lists", () => {
  test.each([
    ["btree-leaf", 366, "49e4dba46b64b4c1c43f8518075ef996"],
    ["btree-posting", 500, "5a5cc579d309a9b9336432d6ea850621"],
    ["hash-bucket", 90, "9d097bed4a97461fa76e6c1d73b79e21"],
    ["gist-leaf", 65, "9141136dc153c3d288f46ad0377ea092"],
    ["gin-posting-leaf", 1912, "e24acca47402cd6609388f362a590e7f"],
  ])("%s", (name, count, md5) => {
    const { entries, broken } = read(captured(name));
    expect(broken).toEqual([]);
    expect(entries).toHaveLength(count);
    expect(digest(entries)).toBe(md5);
  });

  // pageinspect cannot list these: each row is inside the table that they were captured from.
  test.each(["spgist-leaf", "gin-keys", "gin-pending", "bloom-leaf"])("%s", (name) => {
    const { entries, broken } = read(captured(name));
    expect(broken).toEqual([]);
    expect(entries.length).toBeGreaterThan(10);
    for (const tid of entries) {
      const [block, offset] = tid.slice(1, -1).split(",").map(Number) as [number, number];
      expect(block).toBeLessThan(1956);
      expect(offset).toBeGreaterThan(0);
      expect(offset).toBeLessThanOrEqual(291);
    }
  });
});

test("a bloom signature without a bit finds nothing", () => {
  const page = captured("bloom-leaf");
  const before = read(page).killed;
  page.bytes.fill(0, 24 + 6, 24 + 16);
  const { entries, killed } = read(page);
  expect(killed).toEqual([entries[0], ...before]);
});

describe("pages that others lead to", () => {
  test.each([
    ["btree-inner", 10],
    ["gist-inner", 2],
    ["spgist-inner", 2],
    ["hash-meta", 1],
  ])("%s", (name, atLeast) => {
    const { links, broken } = read(captured(name));
    expect(broken).toEqual([]);
    expect(new Set(links).size).toBeGreaterThanOrEqual(atLeast);
    expect(Math.max(...links)).toBeLessThan(2000);
  });
});

describe("a page that is not one of this index", () => {
  const methods = Object.keys(READERS);
  const others = CAPTURED.flatMap((page) => methods.map((method) => ({ page, method }))).filter(
    // B-tree, hash and GiST tell their pages by the size of the special space and an identifier; GIN has no identifier.
    ({ page, method }) =>
      !page.name.startsWith(method) &&
      !(method === "gin" && /^(spgist|brin)/.test(page.name)) &&
      !(method === "btree" && /^(hash|gist)/.test(page.name)),
  );
  test.each(others.map((o) => [o.page.name, o.method, o] as const))("%s is not of %s", (_, __, { page, method }) => {
    expect(read(page, method).broken).not.toEqual([]);
  });

  test("noise never throws and never ends in an endless loop", () => {
    let seed = 1;
    const random = () => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return seed >>> 8;
    };
    for (const page of CAPTURED) {
      const bytes = Buffer.from(page.bytes);
      for (let i = 0; i < 300; i++) {
        bytes[24 + (random() % 8168)] = random() & 0xff;
        for (const method of methods) read({ ...page, bytes }, method);
      }
    }
  });
});

describe("headers", () => {
  test.each(CAPTURED.map((page) => [page.name, page] as const))("of %s is sound", (_, { bytes }) => {
    expect(headerProblem(pagesOf(bytes), 0)).toBeNull();
  });

  test.each([
    ["version", 18, 0x2003],
    ["flags", 10, 0x8000],
    ["lower", 12, 8190],
    ["lower", 12, 4],
    ["upper", 14, 8190],
    ["special", 16, 8191],
  ])("wrong %s at %i", (_, at, value) => {
    const { bytes } = captured("btree-leaf");
    bytes.writeUInt16LE(value, at);
    expect(headerProblem(pagesOf(bytes), 0)).not.toBeNull();
  });
});

describe("BRIN", () => {
  test("the map leads to the summary of each range", () => {
    const mapped: [number, number, number][] = [];
    const summaries = new Map<string, number>();
    for (const name of ["brin-map", "brin-summaries"]) {
      const { bytes, block } = captured(name);
      readBrinPage(pagesOf(bytes), 0, block, {
        meta: () => {},
        mapped: (...place) => mapped.push(place),
        summary: (b, offset, heapBlock) => summaries.set(`${b},${offset}`, heapBlock),
        broken: (what) => expect.fail(what),
      });
    }
    expect(mapped.length).toBeGreaterThan(5);
    for (const [range, block, offset] of mapped) expect(summaries.get(`${block},${offset}`)).toBe(range * 128);
  });
});

test("a number that compares with nothing is seen in the keys of a page of GiST, and only there", () => {
  const { bytes } = captured("gist-inner");
  const pages = pagesOf(new Uint8Array(bytes));
  expect(hasUnboundedKey(pages, 0, 8)).toBe(false);
  const view = new DataView(pages.u8.buffer, pages.u8.byteOffset);
  const first = (view.getUint32(24, true) & 0x7fff) + 8;
  view.setFloat64(first, Number.NaN, true);
  expect(hasUnboundedKey(pages, 0, 8)).toBe(true);
  const leaf = pagesOf(new Uint8Array(captured("gist-leaf").bytes));
  leaf.u8.fill(0xff, 8000, 8100);
  expect(hasUnboundedKey(leaf, 0, 8)).toBe(false);
});
