/** What the checks are told. Apart from the checks, which `--help` and most starts of guard need not load. */

export const POST_BOOTSTRAP_OPTIONS = [
  "receipt",
  "report",
  "level",
  "jobs",
  "checkTimeout",
  "maxRpo",
  "verifyBudget",
  "detach",
  "binDir",
  "queries",
] as const;

/** Of guard --on-unproven=prove. */
export const PROVE_OPTIONS = [...POST_BOOTSTRAP_OPTIONS, "stopTimeout"] as const;

export const VERIFY_OPTIONS = ["conninfo", "datadir", ...POST_BOOTSTRAP_OPTIONS, "previousReport", "json"] as const;
