/** The processes that run because of this one. Apart from what starts them, so that ending costs nothing where none was. */

interface Child {
  kill(signal: NodeJS.Signals): boolean;
}

const running = new Set<Child>();

/** Counts as running until that promise is settled. */
export function keepUntil(child: Child, ended: PromiseLike<unknown>): void {
  running.add(child);
  const forget = () => running.delete(child);
  ended.then(forget, forget);
}

/** Last resort at the end of a cancelled script: nothing that was started here outlives it. */
export function killAllChildren(): void {
  for (const child of running) child.kill("SIGKILL");
}
