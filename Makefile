# Skerry. Bare `make` prints the targets.
GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0-dev)
COMMIT   ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
# A tag, or a version below every release that grows with the commits.
RELEASE  ?= $(patsubst v%,%,$(shell git describe --tags --exact-match 2>/dev/null || echo 0.0.0-dev.$$(git rev-list --count HEAD).g$(COMMIT)))
STAMP    ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1790000000)
PKG      := github.com/skerry-edge/skerry
LDFLAGS  := -s -w -X $(PKG)/agent.version=$(VERSION) -X $(PKG)/agent.commit=$(COMMIT) -X $(PKG)/agent.buildUnix=$(STAMP)
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath
# The edge speaks HTTP/1.1 only, and is built for size: without inlining it is a tenth smaller, with functions packed
# closer another fiftieth. Ed25519 is inlined all the same: 8 KiB make the check of a command a sixth faster.
SMALL    := -gcflags=all=-l -gcflags=crypto/internal/fips140/edwards25519/...= -ldflags '$(LDFLAGS) -funcalign=4'
EDGE     := -tags nethttpomithttp2,lite $(SMALL)
FULL     := -tags nethttpomithttp2,grpcnotrace $(SMALL)
FUZZTIME ?= 30s
ARGS     ?=
HOURS    ?= 1
SEED     ?= 1
NODES    ?= 10000
KUBENODES ?= 1000
MINUTES  ?= 15
SIZES    ?= 100,1000,5000,10000
SCALEDIR ?= /var/tmp/skerry-scale

.PHONY: help build programs full targets release demo test test-unit test-release test-install test-crd test-peer test-system test-fault test-kube soak bench bench-scale bench-kube bench-growth fuzz lint size docs generate ci clean deps
help: ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

build: programs ## build skerry, skerry-edge (lite), skerry-cluster, skerry-swarm, skerry-scale and skerry-fault into bin/
	$(BUILD) -ldflags '$(LDFLAGS)' -o bin/skerry-swarm ./test/swarm/skerry-swarm
	$(BUILD) -ldflags '$(LDFLAGS)' -o bin/skerry-fault ./test/fault/skerry-fault
	$(BUILD) -ldflags '$(LDFLAGS)' -o bin/skerry-scale ./test/scale/skerry-scale

programs: # what is shipped; the rest of build is for tests
	@mkdir -p bin
	$(BUILD) $(EDGE) -o bin/skerry-edge ./cmd/skerry-edge
	$(BUILD) -ldflags '$(LDFLAGS)' -o bin/skerry-cluster ./cmd/skerry-cluster
	$(BUILD) -ldflags '$(LDFLAGS)' -o bin/skerry ./cmd/skerry

full: ## build bin/skerry-edge-full, which has the runtimes containerd and wasm too
	@mkdir -p bin
	$(BUILD) $(FULL) -o bin/skerry-edge-full ./cmd/skerry-edge

release: ## seven targets, packages, images, signed manifest and bundle into dist/ (RELEASE=1.2.3 KEY=release.pem; without a key a throw-away one)
	$(GO) -C install/release build -o ../../bin/skerry-release .
	bin/skerry-release -version $(RELEASE) -commit $(COMMIT) -stamp $(STAMP) $(if $(KEY),-key $(KEY)) $(if $(URL),-url $(URL)) $(ARGS)

demo: ## run a cluster agent and three node agents on this machine and show them (Ctrl-C ends; ARGS="--for 30s -o json")
	@echo "building skerry, skerry-edge and skerry-cluster; the first time takes minutes" >&2
	@$(MAKE) --no-print-directory programs >/dev/null
	@bin/skerry demo $(ARGS)

deps: ## install what the tests need from Debian (root; nothing is started)
	@test/deps.sh

test: deps lint test-unit test-crd test-peer test-release test-install test-system test-fault test-kube fuzz size ## everything

test-unit: ## unit and component tests, with the race detector
	$(GO) test -race -shuffle=on -timeout 20m -skip '^TestPeer' $$($(GO) list ./... | grep -v '/test/') ./test/swarm/... ./test/scale/... ./test/image ./test/freeport ./test/kept
	$(GO) test -shuffle=on ./test/arch ./cluster/kube/tunnel

test-crd: ## the CRDs against the API server's own code, and the framework's fields (a module of its own)
	$(GO) -C test/crd test -shuffle=on ./...

bin/helm: test/helm/go.mod test/helm/go.sum # the real one, for the tests of the chart alone
	cd test/helm && $(BUILD) -ldflags '-s -w' -o ../../bin/helm helm.sh/helm/v4/cmd/helm

test-release: bin/helm ## a release for one target, twice in different directories: the same bytes (a module of its own)
	$(GO) -C install/release test -shuffle=on ./...

test-install: deps programs ## install.sh in three shells, on views of this machine with but a release server (root)
	$(GO) test -shuffle=on -count=1 -timeout 30m ./test/install

test-peer: deps ## tests against mosquitto, Prometheus, node_exporter and other CPUs
	$(GO) test -shuffle=on -run '^TestPeer' $$($(GO) list ./... | grep -v '/test/')

bin/nats-server: test/nats/go.mod test/nats/go.sum # a real second broker, for the tests alone
	cd test/nats && $(BUILD) -o ../../bin/nats-server github.com/nats-io/nats-server/v2

targets: # skerry-edge for all seven targets, lite and full, into bin/targets
	@test/targets.sh >/dev/null

test-system: deps build targets bin/nats-server ## the built binaries as processes: kill -9, cut links, wrong clocks, full disks
	$(GO) test -shuffle=on -count=1 -timeout 30m ./test/system/...

# Stamped as Kubernetes' own builds are, so that kubectl and the API server tell their version.
KUBEPARTS   := kube-apiserver kube-controller-manager kube-scheduler kubectl
KUBEVERSION  = $(shell sed -n 's|^.*k8s.io/kubernetes \(v[0-9.]*\).*|\1|p' test/kube/parts/go.mod)
KUBESTAMP    = $(foreach p,k8s.io/client-go/pkg/version k8s.io/component-base/version,-X $(p).gitVersion=$(KUBEVERSION) -X $(p).gitTreeState=clean \
	-X $(p).gitMajor=$(word 2,$(subst ., ,$(KUBEVERSION:v%=v.%))) -X $(p).gitMinor=$(word 3,$(subst ., ,$(KUBEVERSION:v%=v.%))))
bin/kube/kine $(KUBEPARTS:%=bin/kube/%) &: test/kube/parts/go.mod test/kube/parts/go.sum # a real control plane, for the tests alone
	@mkdir -p bin/kube
	cd test/kube/parts && $(BUILD) -ldflags '-s -w $(KUBESTAMP)' -o ../../../bin/kube/ github.com/k3s-io/kine $(KUBEPARTS:%=k8s.io/kubernetes/cmd/%)

test-kube: build full bin/kube/kubectl bin/helm ## against a real Kubernetes API server, with the chart, built from their modules (some minutes, once)
	$(GO) test -shuffle=on -count=1 -timeout 30m ./test/kube/...

test-fault: build bin/kube/kubectl ## every kind of fault bites and heals, and eight schedules of faults add up; builds the control plane of test-kube (root)
	$(GO) test -shuffle=on -count=1 -timeout 15m ./test/fault/...

soak: build ## one site through schedules of faults for HOURS (1), and the slopes of memory, goroutines and disk (root; SEED=1)
	bin/skerry-fault --seed $(SEED) --hours $(HOURS) $(ARGS)

bench: deps build full ## the budgets against measurements, each beside its reference in the same run
	$(GO) run ./test/bench $(ARGS)

# Run all three, whatever the first says: a missed budget is a result.
bench-scale: build ## NODES (10000) on one core and 2 GiB for MINUTES (15), then kill -9, then that with a fifth of all packets lost (root)
	bin/skerry-scale load --nodes $(NODES) --minutes $(MINUTES) --dir $(SCALEDIR)/$(NODES) $(ARGS); a=$$?; \
	bin/skerry-scale storm --nodes $(NODES) --minutes 1 --dir $(SCALEDIR)/$(NODES) $(ARGS); b=$$?; \
	bin/skerry-scale storm --nodes $(NODES) --minutes 1 --loss 0.2 --dir $(SCALEDIR)/$(NODES) $(ARGS); c=$$?; exit $$((a|b|c))

bench-kube: build bin/kube/kubectl ## KUBENODES (1000) devices as nodes of a Kubernetes cluster for MINUTES (15), idle, then with a pod on each
	bin/skerry-scale kube --nodes $(KUBENODES) --minutes $(MINUTES) --pods --swarm-cpu -1 $(ARGS)

bench-growth: build ## how everything grows over SIZES (100 to 10000 nodes), into docs/performance/growth.json and .svg (root)
	bin/skerry-scale growth --sizes $(SIZES) --minutes 3 --dir $(SCALEDIR) $(ARGS)

fuzz: ## every fuzz target for FUZZTIME (30s)
	@test/fuzz.sh $(FUZZTIME)

lint: ## gofmt, vet, staticcheck, shellcheck, house rules
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt wants to change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) -C test/crd vet ./...
	$(GO) -C install/release vet ./...
	shellcheck $$(git ls-files '*.sh') install/openrc/* install/procd/* .ci/run

size: ## skerry-edge for all seven targets, lite and full, against the budget
	@test/size.sh

docs: ## generate docs/mqtt.md, docs/asyncapi.yaml, docs/openapi.yaml and docs/cli.md
	$(GO) run ./docs/gen

generate: ## write the deep copies of the Kubernetes types, and their CRDs in install/kube/crd
	test/crd/generate.sh .

ci: ## what CI runs, as CI runs it
	CI=true .ci/run

clean: ## remove what make made
	rm -rf bin dist
