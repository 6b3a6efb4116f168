# Targets of Mailward. `make help` lists them.
#
# SERVE_ARGS are given to `mailward serve` by `make run`, BENCH_ARGS to the
# benchmark by `make bench`.

SHELL       := /bin/sh
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS     := -s -w -X main.version=$(VERSION)
DATA_DIR    ?= /var/lib/mailward
FUZZTIME    ?= 30s
# The tests start servers of their own; two packages at a time are enough. lint vets
# everything, and more of it than go test would.
TEST_FLAGS  ?= -p 2 -shuffle=on -timeout 20m -vet=off
# The scanner alone is C beneath (libyara, libdeflate). All else is checked and tested as
# it is built, without cgo, so that a fresh machine compiles most packages only once.
WITH_CGO    := ./cmd/mailward-scanner
WITHOUT_CGO := $$(go list ./... | grep -v /cmd/mailward-scanner)
ASSET_FILES := $(shell find webui/src webui/build.mjs webui/package-lock.json webui/locales -type f 2>/dev/null)

.PHONY: help setup setup-test build binaries assets generate run demo test test-go lint race fuzz bench bench-audit bench-quarantine clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing (as root; quick when nothing is)
	@scripts/setup.sh

setup-test:
	@scripts/setup.sh --test

build: setup binaries ## build the assets, bin/mailward and bin/mailward-scanner

# Where everything that is needed is there, as in the container's build.
binaries: assets
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/mailward ./cmd/mailward
	CGO_ENABLED=1 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/mailward-scanner ./cmd/mailward-scanner

assets: webui/node_modules/.mailward-built ## build the web assets

# The mark lies outside of dist, which is built into the binary.
webui/node_modules/.mailward-built: $(ASSET_FILES)
	cd webui && npm run --silent build
	@touch $@

generate: ## write generated files anew: *_templ.go and docs/config.md
	go tool templ generate -path webui
	go run ./cmd/mailward config --markdown > docs/config.md

run: build ## install, build and run everything in the foreground
	MAILWARD_DATA_DIR=$(DATA_DIR) bin/mailward serve $(SERVE_ARGS)

demo: build ## send sample mails through the running gateway and say what became of each
	@MAILWARD_DATA_DIR=$(DATA_DIR) bin/mailward demo samples

test: setup-test assets lint test-go ## format, vet, staticcheck and every test

lint:
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "not formatted (gofmt -w):"; echo "$$out"; exit 1; }
	CGO_ENABLED=0 go vet $(WITHOUT_CGO)
	CGO_ENABLED=1 go vet $(WITH_CGO)
	CGO_ENABLED=0 go tool staticcheck $(WITHOUT_CGO)
	CGO_ENABLED=1 go tool staticcheck $(WITH_CGO)
	@scripts/check-generated.sh

test-go:
	CGO_ENABLED=0 scripts/with-tmp.sh go test $(TEST_FLAGS) $(WITHOUT_CGO)
	CGO_ENABLED=1 go test $(TEST_FLAGS) $(WITH_CGO)

race: setup-test assets ## every test with the race detector
	scripts/with-tmp.sh go test -race -p 1 -timeout 40m ./...

fuzz: setup ## each fuzz test for FUZZTIME (default 30s)
	@scripts/fuzz.sh $(FUZZTIME)

bench: build ## measure the gateway beside clamd alone and its rivals (BENCH_ARGS="-help")
	go run ./bench $(BENCH_ARGS)

bench-audit: setup ## measure a page of each filter of the audit over EVENTS events (default 10 million; about an hour and a half and 45 GB)
	MAILWARD_BENCH_EVENTS=$(or $(EVENTS),10000000) go test ./audit -run '^$$' -bench List_AnyFilter -benchtime 1x -timeout 4h

bench-quarantine: setup ## measure a page of each filter of the quarantine over ITEMS held mails (default 1 million; about ten minutes and 6 GB)
	MAILWARD_BENCH_ITEMS=$(or $(ITEMS),1000000) go test ./quarantine -run '^$$' -bench List_AnyFilter -benchtime 1x -timeout 1h

clean: ## remove what was built
	rm -rf bin webui/dist/* webui/node_modules/.mailward-built test-results
