/**
 * What an update of a service costs the scheduler: every service is updated every 10 s, as Patroni does, by simulated events;
 * the fleet's memory and its decisions are the product's own. In a process of its own for each size, so that none pays for
 * another's garbage.
 */

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Bench, type BenchCase, type BenchResult, median, range } from "./case.ts";

export const fleetCase: BenchCase = {
  name: "fleet",
  title: "fleet: an update of one service among many",
  runs: 5,
  run,
};

const SIZES = [1000, 10_000, 100_000];

export interface FleetFigures {
  /** CPU time, microseconds. */
  perUpdate: number;
  /** Of single updates, microseconds of wall clock. */
  p50: number;
  p99: number;
  max: number;
  /** Of the heap, bytes. */
  perService: number;
  /** CPU time of the rounds in which tests were chosen and ended, microseconds for each. */
  perRound: number;
  tests: number;
  /** Longest time between the end of a service's interval and its test. */
  longestWaitSeconds: number;
}

async function run({ runs, say }: Bench): Promise<BenchResult> {
  const program = fileURLToPath(new URL("fleet-updates.ts", import.meta.url));
  const measured = new Map<number, FleetFigures[]>(SIZES.map((size) => [size, []]));
  for (let n = 1; n <= runs; n++) {
    for (const size of SIZES) {
      const args = ["--expose-gc", "--import", "tsx", program, String(size)];
      const { stdout } = await promisify(execFile)(process.execPath, args);
      measured.get(size)?.push(JSON.parse(stdout));
      say(`run ${n} of ${runs}: ${size} services`);
    }
  }
  const of = (size: number, figure: keyof FleetFigures) => (measured.get(size) ?? []).map((one) => one[figure]);
  const cell = (size: number, figure: keyof FleetFigures, digits = 1) =>
    `${median(of(size, figure)).toFixed(digits)} (${range(of(size, figure), digits)})`;
  return {
    ratios: [
      {
        what: "CPU per update, 100,000 services : 10,000",
        value: median(of(100_000, "perUpdate")) / median(of(10_000, "perUpdate")),
      },
    ],
    tables: [
      {
        head: ["services", "CPU per update, µs", "p50, µs", "p99, µs", "longest, µs", "heap per service, bytes"],
        rows: SIZES.map((size) => [
          String(size),
          cell(size, "perUpdate", 2),
          cell(size, "p50", 2),
          cell(size, "p99", 2),
          cell(size, "max", 0),
          cell(size, "perService", 0),
        ]),
      },
      {
        head: ["services", "CPU per round, µs", "tests", "longest wait of a due service, s"],
        rows: SIZES.map((size) => [
          String(size),
          cell(size, "perRound", 0),
          cell(size, "tests", 0),
          cell(size, "longestWaitSeconds", 0),
        ]),
      },
    ],
    notes: [
      "Two million updates each; the interval is six hours, a test takes a minute, and there is room for one and a half " +
        "times the tests that this takes. A round is one second: tests end, are chosen and begin in it.",
    ],
    raw: Object.fromEntries(measured),
  };
}
