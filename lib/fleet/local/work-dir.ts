/** The work directory, looked at before anything starts: a fault of it would be found by each test on its own. */

import { combineProblems } from "../../errors.ts";
import { isWritable } from "../../io/files.ts";
import { canSwitchUser, currentUid, isDirectory, lookUpUser, runAs } from "../../io/throwaway.ts";
import { OPTIONS } from "../../options.ts";
import { longestSocketPath, makeLayout, SOCKET_PATH_LIMIT } from "../../restore-test/layout.ts";

/** Unless a service says something else. */
const USER = String(OPTIONS.osUser.fallback);

/** Throws SETTINGS_INVALID. */
export async function checkWorkDir(workDir: string): Promise<void> {
  const problems: { message: string; hint: string }[] = [];
  if (!(await isDirectory(workDir))) {
    problems.push({
      message: `the work directory ${workDir} does not exist`,
      hint: "make it or give another --work-dir; PostgreSQL's user must reach it",
    });
  } else if (!(await isWritable(workDir))) {
    problems.push({ message: `the work directory ${workDir} is not writable`, hint: "give another --work-dir" });
  } else if (!(await isReachable(workDir))) {
    problems.push({
      message: `the work directory ${workDir} cannot be reached by the user ${USER}, as whom root runs PostgreSQL`,
      hint: "chmod o+x it and the directories above it, or give another --work-dir",
    });
  }
  const length = Buffer.byteLength(longestSocketPath(makeLayout(workDir, "", "00000000")));
  if (length > SOCKET_PATH_LIMIT) {
    const most = SOCKET_PATH_LIMIT - (length - Buffer.byteLength(workDir));
    problems.push({
      message: `the work directory ${workDir} has a path too long for PostgreSQL's socket (at most ${most} bytes)`,
      hint: "give a --work-dir with a shorter path",
    });
  }
  if (problems.length > 0) throw combineProblems("SETTINGS_INVALID", problems);
}

/** By the user that PostgreSQL of a restore test runs as; true where that is this process's own or cannot be asked. */
async function isReachable(workDir: string): Promise<boolean> {
  const user = currentUid() === 0 && canSwitchUser() ? await lookUpUser(USER) : undefined;
  if (user === undefined) return true;
  const { exitCode } = await runAs(user, "test", ["-x", workDir], { cwd: "/", env: process.env });
  return exitCode === 0;
}
