import { describeProgress, formatEvent, type Level, type Log, type Progress } from "../log.ts";

/** In a log that is not a terminal, progress is a line every so often. */
const PROGRESS_LINE_EVERY_MS = 5000;

export async function openLog(format: "text" | "json"): Promise<Log> {
  const bars = process.stderr.isTTY === true && format === "text" ? await import("cli-progress") : undefined;
  let bar: { redraw(): void; clear(): void } | undefined;

  const write = (level: Level, phase: string, message: string, fields: Record<string, unknown> = {}) => {
    bar?.clear();
    process.stderr.write(`${formatEvent({ at: new Date(), level, phase, message, fields }, format)}\n`);
    bar?.redraw();
  };

  return {
    info: (phase, message, fields) => write("info", phase, message, fields),
    warn: (phase, message, fields) => write("warn", phase, message, fields),
    error: (phase, message, fields) => write("error", phase, message, fields),
    progress(phase) {
      const startedAt = performance.now();
      const elapsed = () => performance.now() - startedAt;
      if (bars === undefined) {
        let lastAt = startedAt;
        return {
          update(progress) {
            if (performance.now() - lastAt < PROGRESS_LINE_EVERY_MS) return;
            lastAt = performance.now();
            write("info", phase, describeProgress(progress, elapsed()), format === "json" ? { ...progress } : {});
          },
          end() {},
        };
      }
      const single = new bars.SingleBar({
        stream: process.stderr,
        format: `${phase} [{bar}] {text}`,
        barsize: 24,
        // A script that is killed could not show it again.
        hideCursor: false,
        clearOnComplete: true,
      });
      let latest: Progress = {};
      single.start(1000, 0, { text: "" });
      const redraw = () => {
        const share = latest.fraction ?? (latest.totalBytes ? (latest.bytes ?? 0) / latest.totalBytes : 0);
        single.update(Math.floor(Math.min(share, 1) * 1000), { text: describeProgress(latest, elapsed()) });
      };
      const mine = { redraw, clear: () => process.stderr.write("\r\u001b[K") };
      bar = mine;
      return {
        update(progress) {
          latest = { ...latest, ...progress };
          redraw();
        },
        end() {
          if (bar === mine) bar = undefined;
          single.stop();
        },
      };
    },
  };
}
