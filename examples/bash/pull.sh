#!/usr/bin/env bash
# A service in bash: it asks for the next task, does it, and says what came of it. Needs curl 7.84.
#
#     pillion-sidecar run --service files -- examples/bash/pull.sh
#
# It listens nowhere and declares nothing: asking for a handler's tasks is enough. This loop does one task at a
# time; with --processes 4 there are four. The payload is a file as it was submitted, the result its checksum.
set -uo pipefail

payload=$(mktemp)
trap 'rm -f "$payload"' EXIT
stop=
trap 'stop=1' TERM INT # What has begun is told before this ends.

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

until [[ $stop ]]; do
    read -r status id token < <(next)
    case $status in
        200) ;;
        204) continue ;;         # Nothing came in 30 s.
        *) sleep 1; continue ;;  # The sidecar is not there, or about to leave.
    esac

    if [[ ! -s $payload ]]; then
        tell fail --header "Task-Outcome: fatal" --data '{"message": "the file is empty"}'
    elif checksum=$(sha256sum <"$payload"); then
        tell complete --header "Content-Type: text/plain" --data "${checksum%% *}"
    else
        tell fail --data '{"message": "sha256sum failed"}' # Again, after its backoff.
    fi
done
