#!/bin/sh
# Runs each fuzz test of the module for a time of its own.
set -eu
cd "$(dirname "$0")/.."
time=${1:-30s}
go list -f '{{.Dir}}' ./... | while read -r dir; do
    for name in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go 2>/dev/null | awk '{ print $2 }'); do
        echo "== $name in ${dir##*/} for $time"
        # Making an interesting input smaller may take a minute each, in which nothing is tried.
        go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 5s "$dir"
    done
done
