#!/bin/sh
# Fails when a generated file is not what its source makes now.
set -eu
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# templ writes beside its sources, so it works on a copy.
cp -r webui "$tmp/webui" 2>/dev/null || true
rm -rf "$tmp/webui/node_modules"
cp go.mod go.sum "$tmp/"
go tool templ generate -path "$tmp/webui" >/dev/null 2>&1
for f in $(cd webui && find . -name '*_templ.go'); do
    cmp -s "webui/$f" "$tmp/webui/$f" || { echo "webui/$f is not up to date: run make generate"; exit 1; }
done
