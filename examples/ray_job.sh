#!/bin/sh
# A search as a Ray job: it runs on the cluster, and goes on when this terminal is closed.
#
#   ray start --head                      # or any cluster that runs already; jobs need: pip install 'ray[default]'
#   RUNS=/shared/runs sh examples/ray_job.sh --preset baseline --space starter --trials 24 --name mine
#   ray job logs -f JOB                   # the job's name was printed
#
# Where `ray job` misses an authentication token: export RAY_AUTH_MODE=token (`ray start` left one in ~/.ray/auth_token, which
# other machines need too).
#
# RUNS must lie on a file system that all nodes see. Every node needs golflab's dependencies; its code goes along with the job.
# Without jobs the same search is driven from here: golflab search --address auto --runs "$RUNS" ...
set -eu
cd "$(dirname "$0")/.."
exec ray job submit --address "${RAY_DASHBOARD:-http://127.0.0.1:8265}" --no-wait --working-dir . -- \
    python -m golflab.search.cli.main search --address auto --runs "${RUNS:-$PWD/runs}" "$@"
