# The targets are the same on a developer's machine and in CI (.ci/run calls them).
# `make help` lists them.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# DEPOTFS_TOOLS keeps the S3 servers that the tests build (versitygw, MinIO): they
# take minutes to compile and change only with their version.
# (The default is that of s3store/s3test, so that a plain go test finds them too.)
export DEPOTFS_TOOLS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/depotfs/tools
# The build never changes go.mod or go.sum by itself, and needs no git: VERSION says
# what is built.
export GOFLAGS := $(strip $(filter-out -mod=% -buildvcs=%,$(GOFLAGS)) -mod=readonly -buildvcs=false)

VERSION      := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FUZZTIME     ?= 20s
# What docs/benchmarks.md lists, such as -short or -rows 'cold|upload'.
BENCHFLAGS   ?=
# Below the time limit that CI puts on a stage, so that a hanging test ends with
# the stacks of its goroutines and not with a killed job.
TEST_TIMEOUT ?= 18m
# Tests of a package side by side. Most wait for the disk or for time to pass: one for
# each of 2 cores left them idle half of the time.
PARALLEL     ?= 4
# Builds the S3 servers where they are missing; outside of TEST_TIMEOUT, because
# the first time takes minutes.
tools         = go test -count=1 -timeout 30m -run '^TestBuild$$' ./s3store/s3test
STORE        := cmd/depotfs-store

verdict  = awk -v skips=$(CURDIR)/.ci/skips -f $(CURDIR)/.ci/verdict.awk
go_build = CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)'

.PHONY: help build test race fuzz bench lint demo run clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/depotfs and bin/depotfs-store
	@mkdir -p bin
	$(go_build) -o bin/depotfs ./cmd/depotfs
	cd $(STORE) && $(go_build) -o $(CURDIR)/bin/depotfs-store .

test: build ## run all tests of both modules (as root: installs what they need)
	@.ci/need test
	$(tools)
	go test -count=1 -parallel $(PARALLEL) -timeout $(TEST_TIMEOUT) -v ./... 2>&1 | $(verdict)
	cd $(STORE) && go test -count=1 -timeout $(TEST_TIMEOUT) -v ./... 2>&1 | $(verdict)

race: ## run the tests of cache, fs and s3store under the race detector
	@.ci/need race
	$(tools)
	CGO_ENABLED=1 go test -race -count=1 -parallel $(PARALLEL) -timeout $(TEST_TIMEOUT) -v ./cache/... ./fs/... ./s3store/... 2>&1 | $(verdict)

fuzz: ## run each fuzz target for FUZZTIME (20s)
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

bench: build ## compare depotfs with a bare directory and its peers, as one table
	@.ci/need bench
	go run ./integration/bench $(BENCHFLAGS)

lint: ## gofmt, go vet and staticcheck on both modules, bash -n on the scripts
	@unformatted=$$(gofmt -l cache cmd fs integration s3store); \
		test -z "$$unformatted" || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	cd $(STORE) && go vet ./...
	go tool staticcheck ./...
	cd $(STORE) && "$$(go -C $(CURDIR) tool -n staticcheck)" ./...
	@for script in .ci/run .ci/need cmd/depotfs/demo/*.sh; do bash -n "$$script"; done

demo: build ## show the whole round trip on real images; leaves nothing behind
	@.ci/need demo
	@cmd/depotfs/demo/demo.sh

run: build ## mount at ./mnt on the embedded store until ctrl-C
	@.ci/need run
	@cmd/depotfs/demo/run.sh

clean: ## remove what build and run made
	@if mountpoint -q mnt; then echo "mnt is still mounted: run bin/depotfs umount mnt" >&2; exit 1; fi
	rm -rf bin
	@if [ -d mnt ]; then rmdir mnt; fi
