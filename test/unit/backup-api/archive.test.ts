import { describe, expect, test } from "vitest";
import {
  type ArchivedFile,
  type History,
  judgeArchive,
  lostGaps,
  readHistory,
  readListing,
  segmentSizeOf,
} from "../../../lib/backup-api/archive.ts";
import { walName, walNameOf } from "../../../lib/postgres/lsn.ts";
import type { Backup } from "../../../lib/restore/backup-info.ts";

const MB = 1024 ** 2;
const SIZE = 16 * MB;

const name = (timeline: number, segment: number, size = SIZE) => walName(timeline, BigInt(segment), size);
const lsnIn = (segment: number, offset = 0x28, size = SIZE) => {
  const at = BigInt(segment) * BigInt(size) + BigInt(offset);
  return `${(at >> 32n).toString(16).toUpperCase()}/${(at & 0xffffffffn).toString(16).toUpperCase()}`;
};

/** One whose WAL is in these segments, the later ones of the tests ended later. */
function backup(timeline: number, first: number, last = first, label = `T${timeline}S${first}`): Backup {
  return {
    label,
    type: "full",
    error: false,
    archive: { start: name(timeline, first), stop: name(timeline, last) },
    database: { id: 1, "repo-key": 1 },
    info: { size: 1 },
    lsn: { start: lsnIn(first), stop: lsnIn(last, 0x100) },
    timestamp: { start: 1000 * (timeline * 1000 + first), stop: 1000 * (timeline * 1000 + last) + 10 },
  };
}

/** Stored in the order of timeline and segment. */
const file = (segment: string): ArchivedFile => ({
  segment,
  path: `${segment}-0.gz`,
  storedAt: Number.parseInt(segment.slice(0, 8), 16) * 1e6 + Number.parseInt(segment.slice(16), 16),
  size: 100,
});
const range = (timeline: number, first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, i) => file(name(timeline, first + i)));
const NONE: ReadonlyMap<number, History> = new Map();

describe("the listing of repo-ls", () => {
  /** Captured from pgBackRest 2.45, two segments of it. */
  const text =
    '{".":{"type":"path"},"0000000100000000":{"type":"path"},' +
    '"0000000100000000/000000010000000000000018-4cde99eff8e301e244606312bae856658aecc229.gz":{"type":"file","size":16478,"time":1795458420},' +
    '"0000000100000000/000000010000000000000017-93e09b3ca2117b12a02dc28d2f9c8c2171571f99.gz":{"type":"file","size":16464,"time":1795458351},' +
    '"0000000100000000/000000010000000000000017.00000028.backup":{"type":"file","size":373,"time":1795458351},' +
    '"0000000200000000/000000020000000000000019.partial-93e09b3ca2117b12a02dc28d2f9c8c2171571f99.gz":{"type":"file","size":1,"time":1},' +
    '"00000002.history":{"type":"file","size":42,"time":1795458351},' +
    '"archive.info":{"type":"file","size":253,"time":1795458466},"archive.info.copy":{"type":"file","size":253,"time":1795458466}}';

  test("has segments and histories, in order, and nothing else", () => {
    const { files, histories } = readListing(text);
    expect(files).toEqual([
      {
        segment: "000000010000000000000017",
        path: "0000000100000000/000000010000000000000017-93e09b3ca2117b12a02dc28d2f9c8c2171571f99.gz",
        storedAt: 1795458351,
        size: 16464,
      },
      expect.objectContaining({ segment: "000000010000000000000018", storedAt: 1795458420 }),
    ]);
    expect(histories).toEqual(["00000002.history"]);
  });

  test("an empty archive has none", () => {
    expect(readListing('{".":{"type":"path"}}')).toEqual({ files: [], histories: [] });
    expect(readListing("{}")).toEqual({ files: [], histories: [] });
  });

  test("a segment that was pushed twice stands there twice, the newer one behind", () => {
    const path = (checksum: string) => `0000000100000000/000000010000000000000018-${checksum.repeat(40)}.gz`;
    const { files } = readListing(
      JSON.stringify({
        [path("b")]: { type: "file", size: 1, time: 20 },
        [path("a")]: { type: "file", size: 1, time: 10 },
      }),
    );
    expect(files.map(({ storedAt }) => storedAt)).toEqual([10, 20]);
    expect(judgeArchive([backup(1, 0x18)], files, NONE)).toMatchObject({ segments: 1, gaps: [], unusable: [] });
  });
});

test("a history has one line for each parent", () => {
  const text = "1\t0/3000060\tno recovery target specified\n\n2\t1A/5000000\tbefore 2026-11-23 10:00:00+00\n";
  expect(readHistory(text)).toEqual([
    { timeline: 1, lsn: "0/3000060" },
    { timeline: 2, lsn: "1A/5000000" },
  ]);
  expect(readHistory("")).toEqual([]);
});

describe("the segment size", () => {
  const at = (size: number, start: string, stop: string) => ({
    archive: {
      start: walNameOf(1, start, size),
      // PostgreSQL names the segment before when the stop is at its very end.
      stop: walName(
        1,
        (BigInt(`0x${stop.split("/")[0]}`) * 2n ** 32n + BigInt(`0x${stop.split("/")[1]}`) - 1n) / BigInt(size),
        size,
      ),
    },
    lsn: { start, stop },
  });
  const SIZES = Array.from({ length: 11 }, (_, power) => 2 ** (20 + power));

  test.each(SIZES)("%d is known from one backup", (size) => {
    expect(segmentSizeOf([at(size, "0/C0000028", "0/C0000100")])).toBe(size);
    expect(segmentSizeOf([at(size, "3/C1234568", "3/F0000100")])).toBe(size);
  });

  test.each(SIZES)("%d when the stop is the first byte of the next log file", (size) => {
    expect(segmentSizeOf([at(size, "0/C0000028", "1/0")])).toBe(size);
  });

  test("captured: a stop in the next segment", () => {
    const archive = { start: "00000001000000000000001C", stop: "00000001000000000000001D" };
    expect(segmentSizeOf([{ archive, lsn: { start: "0/1C000028", stop: "0/1D000050" } }])).toBe(SIZE);
  });

  test("16 MB when nothing says otherwise", () => {
    expect(segmentSizeOf([])).toBe(SIZE);
    expect(segmentSizeOf([at(64 * MB, "0/28", "0/100")])).toBe(SIZE);
    expect(segmentSizeOf([{ archive: { start: null, stop: null }, lsn: undefined }])).toBe(SIZE);
  });
});

describe("gaps", () => {
  test("nothing is missing", () => {
    const files = range(1, 3, 9);
    expect(judgeArchive([backup(1, 3, 4), backup(1, 6)], files, NONE)).toEqual({
      segmentSize: SIZE,
      segments: 7,
      newest: files.at(-1),
      gaps: [],
      restorable: files.at(-1),
      unusable: [],
    });
  });

  test("is no loss while its segment may still be on the way: asynchronous archiving stores them in any order", () => {
    const files = [...range(1, 3, 6), ...range(1, 8, 9)];
    const state = judgeArchive([backup(1, 3)], files, NONE);
    const storedAt = (state.gaps[0]?.nextStoredAt as number) * 1000;
    expect(storedAt).toBe((files[4]?.storedAt as number) * 1000);
    expect(lostGaps(state, new Date(storedAt + 59_000))).toEqual([]);
    expect(lostGaps(state, new Date(storedAt + 60_000))).toEqual(state.gaps);
  });

  test("in the middle: what is behind it cannot be restored", () => {
    const files = [...range(1, 3, 6), ...range(1, 9, 12)];
    const state = judgeArchive([backup(1, 3)], files, NONE);
    expect(state.gaps).toMatchObject([
      { timeline: 1, first: name(1, 7), last: name(1, 8), segments: 2, isRetention: false },
    ]);
    expect(state.restorable?.segment).toBe(name(1, 6));
    expect(state.newest?.segment).toBe(name(1, 12));
  });

  test("two gaps are two", () => {
    const files = range(1, 3, 12).filter(({ segment }) => ![name(1, 5), name(1, 8), name(1, 9)].includes(segment));
    expect(judgeArchive([backup(1, 3)], files, NONE).gaps.map(({ segments }) => segments)).toEqual([1, 2]);
  });

  test("before a newer set it does not touch what can be restored from that", () => {
    const files = range(1, 3, 20).filter(({ segment }) => segment !== name(1, 7));
    const state = judgeArchive([backup(1, 3), backup(1, 10)], files, NONE);
    expect(state.gaps).toMatchObject([{ first: name(1, 7), isRetention: false }]);
    expect(state.restorable?.segment).toBe(name(1, 20));
  });

  test("what is older than the oldest set is nobody's", () => {
    expect(judgeArchive([backup(1, 9)], [file(name(1, 2)), ...range(1, 9, 11)], NONE).gaps).toEqual([]);
  });

  test("goes on in the next log file after …FF", () => {
    const files = range(1, 0xfd, 0x102);
    expect(files.map(({ segment }) => segment)).toContain("000000010000000100000000");
    expect(judgeArchive([backup(1, 0xfd)], files, NONE).gaps).toEqual([]);
    const without = files.filter(({ segment }) => segment !== "0000000100000000000000FF");
    expect(judgeArchive([backup(1, 0xfd)], without, NONE).gaps).toMatchObject([
      { first: "0000000100000000000000FF", last: "0000000100000000000000FF", segments: 1 },
    ]);
  });

  test("of 64 MB segments a log file ends with …3F", () => {
    const size = 64 * MB;
    const set = {
      ...backup(1, 0),
      archive: { start: name(1, 0x3e, size), stop: name(1, 0x3e, size) },
      lsn: { start: lsnIn(0x3e, 0x28, size), stop: lsnIn(0x3e, 0x100, size) },
    };
    const files = [0x3e, 0x3f, 0x40, 0x41].map((segment) => file(name(1, segment, size)));
    expect(judgeArchive([set], files, NONE)).toMatchObject({ segmentSize: size, gaps: [] });
    expect(judgeArchive([set], files.slice(0, 3), NONE).restorable?.segment).toBe("000000010000000100000000");
  });

  test("without any backup set nothing is needed, and nothing can be restored", () => {
    expect(judgeArchive([], range(1, 3, 9), NONE)).toMatchObject({ gaps: [], restorable: null, segments: 7 });
  });

  test("without any file the sets cannot be restored", () => {
    const state = judgeArchive([backup(1, 3)], [], NONE);
    expect(state).toMatchObject({ newest: null, restorable: null, unusable: ["T1S3"] });
  });
});

describe("the archive that retention has thinned out", () => {
  const sets = [backup(1, 3, 4), backup(1, 9, 10), backup(1, 20)];
  const thinned = [...range(1, 3, 4), ...range(1, 9, 10), ...range(1, 20, 25)];

  test("is no damage", () => {
    const state = judgeArchive(sets, thinned, NONE);
    expect(state.gaps.map(({ isRetention }) => isRetention)).toEqual([true, true]);
    expect(state.unusable).toEqual([]);
    expect(state.restorable?.segment).toBe(name(1, 25));
  });

  test("a segment that is missing beside the gap is", () => {
    const state = judgeArchive(
      sets,
      thinned.filter(({ segment }) => segment !== name(1, 4)),
      NONE,
    );
    expect(state.gaps[0]).toMatchObject({ first: name(1, 4), last: name(1, 8), isRetention: false });
    expect(state.unusable).toEqual(["T1S3"]);
  });

  test("also across a timeline switch", () => {
    const across = [backup(1, 3), backup(2, 12)];
    const histories = new Map([[2, [{ timeline: 1, lsn: lsnIn(8, 0x60) }]]]);
    const state = judgeArchive(across, [...range(1, 3, 3), ...range(2, 12, 14)], histories);
    expect(state.gaps).toMatchObject([
      { timeline: 1, first: name(1, 4), last: name(1, 7), segments: 4, isRetention: true },
      { timeline: 2, first: name(2, 8), last: name(2, 11), segments: 4, isRetention: true },
    ]);
  });
});

describe("timelines", () => {
  /** Promoted within segment 8 of timeline 1. */
  const histories = new Map([[2, [{ timeline: 1, lsn: lsnIn(8, 0x60) }]]]);

  test("the switch's own segment is needed on the new one only", () => {
    const files = [...range(1, 3, 7), ...range(2, 8, 12)];
    const state = judgeArchive([backup(1, 3)], files, histories);
    expect(state.gaps).toEqual([]);
    expect(state.restorable?.segment).toBe(name(2, 12));
    const without = files.filter(({ segment }) => segment !== name(2, 8));
    expect(judgeArchive([backup(1, 3)], without, histories).gaps).toMatchObject([{ timeline: 2, first: name(2, 8) }]);
  });

  test("what the old primary wrote after the switch is not in the way", () => {
    const files = [...range(1, 3, 11), ...range(2, 8, 9)];
    const state = judgeArchive([backup(1, 3)], files, histories);
    expect(state.gaps).toEqual([]);
    expect(state.restorable?.segment).toBe(name(2, 9));
  });

  test("two switches", () => {
    const twice = new Map([
      ...histories,
      [
        3,
        [
          { timeline: 1, lsn: lsnIn(8, 0x60) },
          { timeline: 2, lsn: lsnIn(11, 0x60) },
        ],
      ] as const,
    ]);
    const files = [...range(1, 3, 7), ...range(2, 8, 10), ...range(3, 11, 13)];
    expect(judgeArchive([backup(1, 3)], files, twice)).toMatchObject({
      gaps: [],
      restorable: { segment: name(3, 13) },
    });
    expect(judgeArchive([backup(2, 9)], files, twice)).toMatchObject({
      gaps: [],
      restorable: { segment: name(3, 13) },
    });
  });

  test("two switches in one segment leave nothing of the one between", () => {
    const twice = new Map([
      [
        3,
        [
          { timeline: 1, lsn: lsnIn(8, 0x60) },
          { timeline: 2, lsn: lsnIn(8, 0x90) },
        ],
      ],
    ]);
    const files = [...range(1, 3, 7), ...range(3, 8, 9)];
    expect(judgeArchive([backup(1, 3)], files, twice)).toMatchObject({ gaps: [], restorable: { segment: name(3, 9) } });
  });

  test("just promoted: nothing of the new one is archived yet", () => {
    const state = judgeArchive([backup(1, 3)], range(1, 3, 7), histories);
    expect(state).toMatchObject({ gaps: [], restorable: { segment: name(1, 7) } });
  });

  test("without its history nothing leads to a newer one", () => {
    const state = judgeArchive([backup(1, 3)], [...range(1, 3, 7), ...range(2, 8, 12)], NONE);
    expect(state).toMatchObject({ gaps: [], restorable: { segment: name(1, 7) }, newest: { segment: name(2, 12) } });
  });

  test("a foreign one without history does not hide the real one's gap", () => {
    const files = [...range(1, 3, 7), ...range(2, 8, 9), ...range(2, 11, 12), ...range(7, 40, 41)];
    const state = judgeArchive([backup(1, 3)], files, histories);
    expect(state.gaps).toMatchObject([{ timeline: 2, first: name(2, 10), segments: 1 }]);
    expect(state.restorable?.segment).toBe(name(2, 9));
  });

  test("a foreign one with a history that is not of this set does not either", () => {
    const foreign = new Map([...histories, [7, [{ timeline: 5, lsn: lsnIn(30) }]] as const]);
    const files = [...range(1, 3, 7), ...range(2, 8, 12), ...range(7, 40, 41)];
    expect(judgeArchive([backup(1, 3)], files, foreign)).toMatchObject({
      gaps: [],
      restorable: { segment: name(2, 12) },
    });
  });

  test("a set that the old primary made after the switch stays on its own timeline", () => {
    const files = [...range(1, 3, 12), ...range(2, 8, 14)];
    const dead = backup(1, 10);
    expect(judgeArchive([dead], files, histories)).toMatchObject({ gaps: [], restorable: { segment: name(1, 12) } });
  });

  test("nor does one that ended behind the switch within its segment", () => {
    const dead = { ...backup(1, 8), lsn: { start: lsnIn(8, 0x28), stop: lsnIn(8, 0x100) } };
    const files = [...range(1, 3, 9), ...range(2, 8, 14)];
    expect(judgeArchive([dead], files, histories).restorable?.segment).toBe(name(1, 9));
    const alive = { ...dead, lsn: { start: lsnIn(8, 0x28), stop: lsnIn(8, 0x60) } };
    expect(judgeArchive([alive], files, histories).restorable?.segment).toBe(name(2, 14));
  });

  test("an old set on a dead one does not hide the gaps of the living one's sets", () => {
    // Timeline 2 was given up; timeline 3 was forked from 1 as well.
    const both = new Map([...histories, [3, [{ timeline: 1, lsn: lsnIn(8, 0x60) }]] as const]);
    const files = [...range(2, 8, 12), ...range(3, 20, 22), ...range(3, 24, 25)];
    const state = judgeArchive([backup(2, 9), backup(3, 20)], files, both);
    expect(state.gaps).toMatchObject([
      { timeline: 3, first: name(3, 23), last: name(3, 23), segments: 1, isRetention: false },
    ]);
  });

  test("timeline 10 is A, in names and in histories", () => {
    const ten = new Map([[10, [{ timeline: 9, lsn: lsnIn(8, 0x60) }]]]);
    const files = [...range(9, 3, 7), ...range(10, 8, 9)];
    expect(files.at(-1)?.segment).toBe("0000000A0000000000000009");
    expect(judgeArchive([backup(9, 3)], files, ten).restorable?.segment).toBe(name(10, 9));
  });
});

describe("sets without their own WAL", () => {
  test("are named, oldest first", () => {
    const sets = [backup(1, 10, 12), backup(1, 3, 5)];
    const files = range(1, 3, 14).filter(({ segment }) => ![name(1, 4), name(1, 12)].includes(segment));
    expect(judgeArchive(sets, files, NONE).unusable).toEqual(["T1S3", "T1S10"]);
  });

  test("the newest decides what can be restored, although an older one reaches further", () => {
    const state = judgeArchive([backup(1, 3), backup(1, 10)], range(1, 3, 9), NONE);
    expect(state).toMatchObject({ restorable: null, unusable: ["T1S10"] });
  });

  test("one without WAL of its own in pgBackRest's info is no problem of the archive", () => {
    const set = { ...backup(1, 3), archive: { start: null, stop: null } };
    expect(judgeArchive([set], range(1, 3, 4), NONE)).toMatchObject({ gaps: [], unusable: [], restorable: null });
  });
});

/** Random numbers that are the same in every run. */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
}

test("whichever single segment is taken away between the oldest set and the newest segment, it is found", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const roll = dice(seed);
    const histories = new Map<number, History>();
    const files: ArchivedFile[] = [];
    const sets: Backup[] = [];
    let parents: { timeline: number; lsn: string }[] = [];
    let at = 250 + roll(10);
    for (let timeline = 1; timeline <= 1 + roll(4); timeline++) {
      if (timeline > 1) histories.set(timeline, parents);
      const last = at + 3 + roll(6);
      files.push(...range(timeline, at, last));
      if (timeline === 1 || roll(2) === 0) sets.push(backup(timeline, at + 1, at + 1 + roll(2)));
      parents = [...parents, { timeline, lsn: lsnIn(last + 1, 0x60) }];
      at = last + 1;
    }
    const whole = judgeArchive(sets, files, histories);
    expect(whole, `seed ${seed}`).toMatchObject({ gaps: [], unusable: [], restorable: files.at(-1) });
    const needed = files.filter(({ segment }) => segment >= (sets[0]?.archive.start ?? ""));
    for (const { segment } of needed.slice(0, -1)) {
      const state = judgeArchive(
        sets,
        files.filter((one) => one.segment !== segment),
        histories,
      );
      expect(state.gaps, `seed ${seed}, without ${segment}`).toEqual([
        expect.objectContaining({ first: segment, last: segment, segments: 1, isRetention: false }),
      ]);
    }
  }
});
