#!/bin/sh
# A handler that is a command, run once for each task: payload on stdin, result on stdout.
#
#     SITE=/tmp/site pillion-sidecar run --service pages --exec publish=examples/exec/publish.sh
#
# What there is to know of the attempt is in TASK_ID, TASK_ATTEMPT, TASK_TOKEN, TASK_META_... The exit code is
# the outcome: 0 success, 75 not now, 65 fatal, any other failed, again after the backoff. The end of stderr
# is kept with a failure. Any filter is a handler as it is: --exec pack='gzip -9'.
set -eu

if [ ! -d "$SITE" ]; then
    echo "$SITE is not mounted" >&2
    exit 75 # EX_TEMPFAIL: comes again, and no attempt is charged.
fi

# A task may run more than once. Written beside its place and moved there, the page is whole or not
# there, and the second time it is the same page.
page="$SITE/$TASK_ID.html"
cat >"$page.part"
if ! grep -q '<title>' "$page.part"; then
    rm "$page.part"
    echo "the page has no title" >&2
    exit 65 # EX_DATAERR: a dead letter, at once.
fi
mv "$page.part" "$page"
printf %s "$page"
