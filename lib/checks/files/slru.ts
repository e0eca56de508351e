/**
 * Which segments of pg_xact and pg_multixact must be there. Numbers of access/transam/clog.c, multixact.c and slru.c: two bits
 * of status for a transaction, four bytes of offset for a multixact, five bytes for a member in groups of four, 32 pages in a
 * segment, whose name is its number in hexadecimal digits.
 */

export interface Positions {
  blockSize: number;
  serverVersion: number;
  /** With its epoch: all that is older was on disk at the last checkpoint. */
  checkpointNextXid: number;
  /** With its epoch, now. */
  nextXid: number;
  /** Of all databases; without an epoch. */
  oldestXid: number;
  nextMulti: number;
  oldestMulti: number;
  nextOffset: number;
  /** Of the members of the oldest multixact; null when that is not known. */
  oldestOffset: number | null;
}

export interface Segment {
  /** Its possible names: longer ones may be used since 17. */
  files: string[];
  firstPage: number;
  lastPage: number;
}

export interface Need {
  directory: string;
  /** How many transactions or multixacts of the last page are older than the checkpoint. */
  inLastPage: number;
  segments: Segment[];
}

const PAGES = 32;
const WRAP = 2 ** 32;
const FIRST_NORMAL_XID = 3;

export function neededOf(positions: Positions): Need[] {
  return [neededXact(positions), neededOffsets(positions), neededMembers(positions)];
}

function neededXact({ blockSize, checkpointNextXid, nextXid, oldestXid }: Positions): Need {
  const perPage = blockSize * 4;
  const nothing = { directory: "pg_xact", segments: [], inLastPage: 0 };
  if (oldestXid < FIRST_NORMAL_XID) return nothing;
  const oldest = nextXid - modulo((nextXid % WRAP) - oldestXid, WRAP);
  // No page is made for the three permanent ones, which come first after a wraparound.
  const low = checkpointNextXid % WRAP;
  const last = checkpointNextXid - 1 - (low <= FIRST_NORMAL_XID ? low : 0);
  if (oldest < 0 || last < oldest) return nothing;
  return {
    directory: "pg_xact",
    segments: segmentsOf(Math.floor(oldest / perPage), Math.floor(last / perPage), WRAP / perPage),
    inLastPage: (last % perPage) + 1,
  };
}

function neededOffsets({ blockSize, nextMulti, oldestMulti }: Positions): Need {
  const perPage = blockSize / 4;
  const directory = "pg_multixact/offsets";
  if (!isBefore(oldestMulti, nextMulti)) return { directory, segments: [], inLastPage: 0 };
  // Zero is no multixact, so one that comes first after a wraparound has no page before it is used.
  const last = nextMulti <= 1 ? WRAP - 1 : nextMulti - 1;
  const pages = WRAP / perPage;
  const [first, end] = [Math.floor(oldestMulti / perPage), Math.floor(last / perPage)];
  return {
    directory,
    segments: segmentsOf(first, end < first ? end + pages : end, pages),
    inLastPage: (last % perPage) + 1,
  };
}

function neededMembers({
  blockSize,
  serverVersion,
  oldestMulti,
  nextMulti,
  oldestOffset,
  nextOffset,
}: Positions): Need {
  const directory = "pg_multixact/members";
  // Offsets have 64 bits from 19 on.
  const unknown = serverVersion >= 190_000 || oldestOffset === null || !isBefore(oldestMulti, nextMulti);
  if (unknown || !isBefore(oldestOffset as number, nextOffset)) return { directory, segments: [], inLastPage: 0 };
  const perPage = Math.floor(blockSize / 20) * 4;
  // The last segment before a wraparound is short.
  const pages = Math.floor((WRAP - 1) / perPage) + 1;
  const first = Math.floor((oldestOffset as number) / perPage);
  const end = Math.floor(modulo(nextOffset - 1, WRAP) / perPage);
  return { directory, segments: segmentsOf(first, end < first ? end + pages : end, pages), inLastPage: 0 };
}

/** As far as half of all numbers, as the server compares them. */
const isBefore = (a: number, b: number) => a !== b && modulo(b - a, WRAP) < WRAP / 2;

const modulo = (a: number, b: number) => ((a % b) + b) % b;

/** Pages from `first` to `last`, which may be beyond the `pages` after which they begin again. */
function segmentsOf(first: number, last: number, pages: number): Segment[] {
  const segments: Segment[] = [];
  for (let page = first; page <= last; ) {
    const at = modulo(page, pages);
    const number = Math.floor(at / PAGES);
    const endOfSegment = Math.min((number + 1) * PAGES, pages) - 1;
    const count = Math.min(endOfSegment - at, last - page);
    const name = number.toString(16).toUpperCase();
    segments.push({
      files: [name.padStart(4, "0"), name.padStart(15, "0")],
      firstPage: at - number * PAGES,
      lastPage: at - number * PAGES + count,
    });
    page += count + 1;
  }
  return segments;
}

export interface MissingSegment {
  file: string;
  what: string;
  /** Pages that are not there, counted from the directory's first. */
  firstPage: number;
  lastPage: number;
}

export function missingSegments(
  { segments }: Need,
  sizes: Readonly<Record<string, number>>,
  blockSize: number,
): MissingSegment[] {
  return segments.flatMap(({ files, firstPage, lastPage }) => {
    const before = Number.parseInt(files[0] as string, 16) * PAGES;
    const at = (page: number) => ({ firstPage: before + page, lastPage: before + lastPage });
    const file = files.find((name) => sizes[name] !== undefined);
    if (file === undefined) return [{ file: files[0] as string, what: "is missing", ...at(firstPage) }];
    const size = sizes[file] as number;
    const wanted = (lastPage + 1) * blockSize;
    if (size < wanted) {
      const first = Math.max(firstPage, Math.floor(size / blockSize));
      return [{ file, what: `has ${size} bytes and needs ${wanted}`, ...at(first) }];
    }
    const what = `has ${size} bytes, more than a segment holds`;
    return size > PAGES * blockSize ? [{ file, what, ...at(firstPage) }] : [];
  });
}
