#!/bin/sh
# Settles the claims on this machine's kernel, and on the kernels that are named, and keeps evidence and reports in out/ci.
#   sh docs/ci/run.sh [KERNEL...]
# From the top of the clone. Ends with pytest's exit code.
set -eu

OUT=${OUT:-out/ci}
export CI=true

make install
mkdir -p "$OUT"

# The scenarios mostly wait: many workers on this kernel. In a machine no time is waited for: two for each kernel.
WORKERS=${WORKERS:-$([ $# = 0 ] && echo 16 || echo 2)}
kernels=${1:+--tcp-kernel running}
for kernel in "$@"; do kernels="$kernels --tcp-kernel $kernel"; done

status=0
# shellcheck disable=SC2086  # options, word by word
"${VENV:-.venv}/bin/python" -m pytest scenarios/ -n "$WORKERS" --dist worksteal $kernels \
    --tcp-evidence "$OUT/evidence" --tcp-report "$OUT/report.html" --tcp-ktap "$OUT/results.ktap" --tcp-kcidb "$OUT/kcidb.json" \
    --junitxml "$OUT/junit.xml" ${ARGS:-} </dev/null || status=$?

echo "evidence and reports: $OUT"
exit "$status"
