# `make run` starts a working edge, `make test` proves it. Both need Go alone;
# what the tests need beside it is installed by `make test` where it is missing.

SHELL   := /bin/bash
LINT    := golangci-lint
VERSION := v2.12.2
FUZZTIME ?= 30s
# Without file access the engine keeps no copies of uploads on disk.
export GOFLAGS := $(shell go env GOFLAGS) -tags=no_fs_access
export CGO_ENABLED ?= 1

.PHONY: help run build test test-fast test-long crs bench fuzz lint

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## three sample applications behind an edge on https://127.0.0.1:8443
	go run ./cmd/edge demo

build: ## bin/edge, one static binary
	CGO_ENABLED=0 go build -trimpath -o bin/edge ./cmd/edge

test: need clients ## everything, against the real binary
	go test -race -timeout 20m ./...

test-fast: need ## the rooms alone, without starting an edge
	go test -race -timeout 2m $$(go list ./... | grep -v cmd/edge)

test-long: need clients ## the long proofs: all tests with their long rounds, and every fuzz target for FUZZTIME
	EDGE_LONG=1 go test -race -count=1 -timeout 60m ./...
	$(MAKE) fuzz

crs: ## the regression suite of the Core Rule Set, through a whole edge
	@set -o pipefail; go test -count=1 -run '^TestCRS' -v ./cmd/edge | grep -vE '^(=== |--- PASS|PASS|ok )'

bench: ## all benchmarks, each beside its baseline; last the whole edge against stock Coraza and none, and against a bare proxy
	go test -run '^$$' -bench . -benchmem $$(go list ./... | grep -v edge/proxy)
	@set -o pipefail; go test -run '^$$' -bench . ./proxy | grep -vE '^(PASS|ok )'
	@set -o pipefail; EDGE_LONG=1 go test -count=1 -run '^TestRequestCost$$' -v ./cmd/edge | grep -E 'over (http1|h2):|FAIL'

fuzz: need ## every fuzz target for FUZZTIME (30s)
	@set -e; for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -c6-); do \
	    echo "$$dir $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$dir; \
	  done; \
	done

lint: bin/$(LINT)-$(VERSION) ## the few linters we mean
	go mod tidy -diff
	bin/$(LINT)-$(VERSION) run ./...

bin/$(LINT)-$(VERSION):
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/$(LINT)@$(VERSION)
	mv bin/$(LINT) $@

.PHONY: need
need: # the race detector is C
	@.ci/need gcc=gcc libc6-dev

.PHONY: clients
clients: # that are proved to get through
	@.ci/need curl=curl chromium=chromium node=nodejs /usr/bin/python3=python3 \
	  /usr/lib/python3/dist-packages/requests=python3-requests /usr/lib/python3/dist-packages/aiohttp=python3-aiohttp
