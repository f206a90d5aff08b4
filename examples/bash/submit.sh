#!/usr/bin/env bash
# Submit stdin as a task, wait for its end, print its status. Needs curl 7.76.
#
#     examples/bash/submit.sh files.checksum <README.md
#
# Prefer: wait=60 has the answer wait for the task's end. The key makes the task the same one whenever the
# same bytes are submitted, so that running this again, after a lost answer say, does nothing twice.
set -euo pipefail

payload=$(mktemp)
trap 'rm -f "$payload"' EXIT
cat >"$payload"
key=$(sha256sum <"$payload")

curl --silent --show-error --fail-with-body --unix-socket "$PILLION_SIDECAR_SOCKET" \
    "http://localhost/v1/tasks/$1" \
    --header "Idempotency-Key: ${key%% *}" \
    --header "Content-Type: application/octet-stream" \
    --header "Prefer: wait=60" \
    --data-binary "@$payload"
