#!/usr/bin/env bash
# A service in bash: it asks for the next task, does it, and says what came of it. Needs curl 7.84.
#
#     pillion-sidecar run --service files -- examples/bash/pull.sh
#
# It listens nowhere and declares nothing: asking for a handler's tasks is enough. One loop does one task at
# a time; start it four times (--processes 4) for four. The payload is a file as it was submitted,
# the result its checksum.
set -uo pipefail

payload=$(mktemp)
trap 'rm -f "$payload"' EXIT
trap exit TERM INT

sidecar() {
    curl --silent --show-error --unix-socket "$PILLION_SIDECAR_SOCKET" "$@"
}

next() { # Waits until there is a task: prints status, id and token, and leaves the payload in its file.
    sidecar "http://localhost/v1/next?handler=files.checksum&wait=30" --output "$payload" \
        --write-out '%{http_code} %header{task-id} %header{task-token}'
}

tell() { # complete, fail or defer; what else is given goes to curl
    sidecar "http://localhost/v1/tasks/$id/$1" --header "Task-Token: $token" --output /dev/null "${@:2}"
}

while true; do
    if ! answer=$(next); then
        sleep 1 # The sidecar is not there; it will be.
        continue
    fi
    read -r status id token <<<"$answer"
    [[ $status == 200 ]] || continue # 204: nothing came in 30 s.

    if [[ ! -s $payload ]]; then
        tell fail --header "Task-Outcome: fatal" --data '{"message": "the file is empty"}'
    elif checksum=$(sha256sum <"$payload"); then
        tell complete --header "Content-Type: text/plain" --data "${checksum%% *}"
    else
        tell fail --data '{"message": "sha256sum failed"}' # Again, after the backoff.
    fi
done
