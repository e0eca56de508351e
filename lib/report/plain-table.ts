/** Tables for a terminal or a log: columns without lines, and no line longer than it may be. */

import Table, { type TableConstructorOptions } from "cli-table3";

export type Color = "green" | "red" | "yellow" | "dim";
export type Paint = (text: string, color: Color) => string;

const CODES = { green: 32, red: 31, yellow: 33, dim: 2 };

export const painter =
  (color: boolean): Paint =>
  (text, name) =>
    color ? `\u001b[${CODES[name]}m${text}\u001b[0m` : text;

const NO_LINES = Object.fromEntries(
  ["top", "top-mid", "top-left", "top-right", "bottom", "bottom-mid", "bottom-left", "bottom-right", "left", "left-mid",
   "mid", "mid-mid", "right", "right-mid"].map((name) => [name, ""]),
); // biome-ignore format: a list

const PLAIN = {
  chars: { ...NO_LINES, middle: "  " },
  style: { "padding-left": 0, "padding-right": 0, head: [], border: [] },
  wordWrap: true,
};

export const plainTable = (options: Partial<TableConstructorOptions>) => new Table({ ...PLAIN, ...options });

/** Without the spaces at the ends of its lines. */
export const lines = (grid: InstanceType<typeof Table>) =>
  grid
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");

/** Wraps at spaces, and breaks words that are longer than a line: cli-table3 would cut them off. */
export function breakable(text: string, width: number): string {
  return text
    .split("\n")
    .flatMap((indented) => {
      const line = indented.trimStart();
      const indent = indented.slice(0, indented.length - line.length);
      const limit = width - indent.length;
      const out: string[] = [];
      let current = "";
      for (const word of line.split(" ")) {
        for (let rest = word, first = true; first || rest.length > 0; first = false) {
          const room = current === "" ? limit : limit - current.length - 1;
          if (rest.length <= room) {
            current = current === "" ? rest : `${current} ${rest}`;
            rest = "";
          } else if (current !== "") {
            out.push(current);
            current = "";
          } else {
            out.push(rest.slice(0, limit));
            rest = rest.slice(limit);
          }
        }
      }
      out.push(current);
      return out.map((part) => (indent + part).trimEnd());
    })
    .join("\n");
}
