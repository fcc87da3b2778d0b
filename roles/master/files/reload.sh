#!/bin/sh
# Have nginx read its configuration anew, and drop no connection: `master-reload PID`, with that of its first process.
# Ends with 1 when nginx goes on with what it had, as when it cannot listen where it now should. It tells nobody, but
# only a configuration that it took gets workers of its own.
set -eu
# Where the workers stand for whom cannot see them: they are another user's, and nginx.service hides those.
children=/proc/$1/task/$1/children
before=" $(cat "$children") "
kill -HUP "$1"
tries=0
while [ "$tries" -lt 50 ]; do
    for worker in $(cat "$children"); do
        case $before in *" $worker "*) ;; *) exit 0 ;; esac
    done
    sleep 0.1
    tries=$((tries + 1))
done
echo "nginx goes on with the configuration that it had; /var/log/nginx/error.log says why" >&2
exit 1
