import { basename } from "node:path";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Of the lab: a file that begins late with a lot to do would have the end to itself. */
const LONGEST = [
  ...["bootstrap", "restore-test", "interrupted", "verify", "mark", "backup-api"],
  ...["guard", "fleet-record", "wal-ahead", "templates", "readme", "source"],
];

/** Vitest knows how long files took only where they have run before. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => {
      const [name, ring] = basename(moduleId).split(".");
      return ring === "lab" && LONGEST.includes(name ?? "") ? LONGEST.indexOf(name ?? "") : LONGEST.length;
    };
    return (await super.sort(files)).sort((a, b) => place(a) - place(b));
  }
}
