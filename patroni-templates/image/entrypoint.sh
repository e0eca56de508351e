#!/bin/sh
# Entrypoint of a database image: guard, then Patroni with the arguments that were given.
#
# When a bootstrap is interrupted (a pod is evicted, a node restarts), Patroni adopts and promotes at its next start whatever
# lies in the data directory, and never calls post_bootstrap. guard finds what was never proven, and refuses, wipes or proves
# it first: RESTORE_ON_UNPROVEN=refuse|wipe|prove. It is done at once when there is nothing to do.
set -eu

: "${PGDATA:?is not set: it must be the data_dir of the Patroni configuration}"
: "${SCRIPTS_DIR:=/opt/patroni-restore}"

node "$SCRIPTS_DIR/guard.mjs" --datadir "$PGDATA"

# exec: signals of the container must reach Patroni, which stops PostgreSQL.
exec patroni "$@"
