#!/bin/sh
# Runs a command with its temporary files in memory, where there is room: the tests
# make some hundred databases of two thousand files each, and a disk takes ten times
# as long for that. TMPDIR, where it is set, is used as it is.
set -eu
enough=6000000 # KiB: two packages at a time, with their servers
dir=/dev/shm
made=
if [ -z "${TMPDIR:-}" ] && [ "$(stat -f -c %T $dir 2>/dev/null)" = tmpfs ] && ! grep -q "^[^ ]* $dir .*noexec" /proc/mounts &&
    [ "$(df --output=avail -k $dir | tail -n 1)" -gt $enough ] && [ "$(awk '/MemAvailable/ { print $2 }' /proc/meminfo)" -gt $enough ]; then
    # A short name, as paths of sockets are short; the users of the servers go through it.
    made=$(mktemp -d $dir/mw.XXXX)
    chmod 755 "$made"
    TMPDIR=$made
    export TMPDIR
fi
# Where the test binaries share what costs much to make (internal/testenv).
MAILWARD_TEST_SHARED=$(mktemp -d "${TMPDIR:-/tmp}/shared.XXXX")
chmod 755 "$MAILWARD_TEST_SHARED"
export MAILWARD_TEST_SHARED
trap 'rm -rf "$MAILWARD_TEST_SHARED" ${made:+"$made"}' EXIT
trap 'exit 130' INT TERM
"$@"
