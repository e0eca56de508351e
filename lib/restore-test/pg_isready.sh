#!/bin/sh
# Patroni looks once a second whether PostgreSQL has started, for the first time before it can have. This stands in for
# pg_isready and answers when it has, or after a second.
tries=0
while :; do
  "${0%/*}/original/pg_isready" -q "$@"
  code=$?
  tries=$((tries + 1))
  # 1: it starts up; 2: it does not answer yet.
  case $code in 1 | 2) [ $tries -lt 20 ] || exit $code ;; *) exit $code ;; esac
  sleep 0.05
done
