/** Written into the scripts when they are built. */
export const VERSION = process.env.PATRONI_RESTORE_VERSION ?? "0.0.0-source";
