/**
 * Every failure a user can meet. The name is stable API; the number is the process exit code
 * (README, "Exit codes"). 1 is a bug in this library and has no RestoreError.
 */
export const EXIT_CODES = {
  SETTINGS_INVALID: 2,
  PREFLIGHT_FAILED: 10,
  RESTORE_FAILED: 11,
  RECOVERY_FAILED: 12,
  TARGET_UNREACHED: 13,
  TIMED_OUT: 14,
  DETACH_FAILED: 15,
  UNHEALTHY: 20,
  UNVERIFIED: 21,
  SOURCE_UNREACHABLE: 30,
  INTERRUPTED: 130,
  TERMINATED: 143,
} as const;

export type ErrorCode = keyof typeof EXIT_CODES;

export const INTERNAL_EXIT_CODE = 1;

/** `host`: it lies at the machine that restores (no space, no such program), and nothing is said of the backup. */
export type About = "host";

/** A failure that an operator can act on. Anything else that is thrown is a bug (exit code 1). */
export class RestoreError extends Error {
  override readonly name = "RestoreError";
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly about: About | undefined;

  /** `message`: lower-case, with the values, no final period. `hint`: what to do, a sentence without its period. */
  constructor(
    code: ErrorCode,
    message: string,
    details: { hint?: string | undefined; about?: About | undefined; cause?: unknown } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.hint = details.hint;
    this.about = details.about;
  }

  get exitCode(): number {
    return EXIT_CODES[this.code];
  }
}

/** The text shown on stderr, in pgBackRest's own shape so that both read alike in one log. */
export function formatError(error: RestoreError): string {
  const number = String(error.exitCode).padStart(3, "0");
  const hint = error.hint === undefined ? "" : `\nHINT: ${error.hint}.`;
  return `ERROR: [${number}]: ${error.code}: ${error.message}${hint}`;
}

/** The `error` member of a report. */
export interface ReportedError {
  code: number;
  name: ErrorCode | "INTERNAL";
  message: string;
  hint: string | null;
  about?: About;
}

export function reportError(error: unknown): ReportedError {
  if (error instanceof RestoreError) {
    const { exitCode, code, message, hint = null, about } = error;
    return { code: exitCode, name: code, message, hint, ...(about === undefined ? {} : { about }) };
  }
  return { code: INTERNAL_EXIT_CODE, name: "INTERNAL", message: messageOf(error), hint: null };
}

/** Never empty: Node wraps failed connections to a name with several addresses in an AggregateError without a text. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.message !== "") return error.message;
  if (error instanceof AggregateError) return [...new Set(error.errors.map(messageOf))].join("; ");
  return (error as NodeJS.ErrnoException).code ?? error.name;
}

/**
 * Several problems found at once, each with its own sentence, as one error: `a; b` for one line, a list for many. It lies at
 * the host only when all of them do.
 */
export function combineProblems(
  code: ErrorCode,
  problems: readonly { message: string; hint?: string | undefined; about?: About | undefined }[],
): RestoreError {
  const [first] = problems;
  if (problems.length === 1 && first !== undefined) return new RestoreError(code, first.message, first);
  const lines = problems.map((p) => `  - ${p.message}${p.hint === undefined ? "" : `\n      HINT: ${p.hint}.`}`);
  return new RestoreError(code, `${problems.length} problems were found\n${lines.join("\n")}`, {
    about: problems.length > 0 && problems.every(({ about }) => about === "host") ? "host" : undefined,
  });
}
