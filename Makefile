# weft: make demo shows it, make test tests it; both do their own set-up on Debian.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

# Building does not ask git: not every CI job's user may.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

GO     ?= go
PREFIX ?= /usr/local

# What weft runs, and what its tests run besides.
PACKAGES      := openvswitch-switch
TEST_PACKAGES := $(PACKAGES) libyang-tools openvswitch-testcontroller iproute2 iputils-ping nftables procps uidmap slirp4netns gcc libc6-dev kmod xz-utils dpdk podman crun

# Tests of packages that build networks, of those that start virtual machines, and of all
# others, which -race watches.
KERNEL   := ./e2e ./internal/probe ./link/wire ./link/netem ./dpdkhost/port ./dpdkhost/eal
MACHINES := ./internal/vm/cmd/vm
PURE      = $(filter-out $(shell $(GO) list $(KERNEL) $(MACHINES)),$(shell $(GO) list ./...))

# Tests that run again under Debian's kernel, which has what this one may lack (openvswitch,
# sch_netem, 802.1Q): PACKAGE:PATTERN or PACKAGE:PATTERN:FLAGS, without spaces. The pattern is
# go test -run's; flags are go tool vm's, with commas between: -nics=2,-hugepages=64. Each
# starts a machine. All of it, with the tests of $(MACHINES), has VM_SECONDS.
VM_SECONDS ?= 600
VM_TESTS   := \
	./e2e:TestKernelDatapath|TestJustBooted \
	./e2e:TestGuestNICs:-nics=2,-hugepages=64 \
	./link/netem:Test \
	./dpdkhost/port:TestXDPStale|TestMixed|TestXDPQueues

# Fuzz targets, each for FUZZTIME: PACKAGE:TARGET.
# A number of runs, not a time: when a time is over, go test sometimes reports that as a failure.
FUZZTIME ?= 20000x
FUZZ     := ./topo:FuzzGenerate ./topo:FuzzPlan ./topo/netfile:FuzzYAML ./topo/netfile:FuzzGraphML ./topo/netfile:FuzzMiniEdit ./topo/netfile:FuzzContainerlab ./topo:FuzzParseController ./topo:FuzzLinkOptions ./topo:FuzzDiff ./topo:FuzzGroups ./network:FuzzSchedule ./control:FuzzReader ./control:FuzzController \
	./link/wire/lane:FuzzSegments ./link/wire/lane:FuzzParseTrace ./link/record:FuzzReader ./internal/filter:FuzzParseProgram \
	./shell:FuzzLine ./script:FuzzScript ./internal/probe:FuzzEcho ./cmd/weft:FuzzOptparse ./node:FuzzSplit \
	./internal/vnet:FuzzDivide ./experiment:FuzzParse ./dpdkhost/nf:FuzzHeaders ./dpdkhost/nf/builtin:FuzzRules ./dpdkhost/manager:FuzzFlow ./dpdkhost/nf/builtin:FuzzAutomaton ./dpdkhost/memif:FuzzOffer ./dpdkhost/memif:FuzzRings ./dpdkhost/onvm:FuzzParse ./dpdkhost/agent:FuzzMessages

.PHONY: build
build: ## compile bin/weft
	CGO_ENABLED=0 $(GO) build -o bin/weft ./cmd/weft

.PHONY: demo
demo: ## install what is missing, compile, and ping through a tree of switches
	@$(call install,$(PACKAGES))
	@$(MAKE) --no-print-directory build
	bin/weft --topo tree,2,2 --test pingall
	@echo "Now try it yourself: bin/weft --topo tree,2,2"

.PHONY: install
install: build ## install weft, mn, manual page and completions below PREFIX
	install -D -m 755 bin/weft $(DESTDIR)$(PREFIX)/bin/weft
	ln -sf weft $(DESTDIR)$(PREFIX)/bin/mn
	install -D -m 644 man/weft.1 $(DESTDIR)$(PREFIX)/share/man/man1/weft.1
	ln -sf weft.1 $(DESTDIR)$(PREFIX)/share/man/man1/mn.1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	bin/weft completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/weft
	bin/weft completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_weft
	bin/weft completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/weft.fish

.PHONY: test
test: ## install what is missing, then run all checks and tests, with a summary at the end
	@$(call install,$(TEST_PACKAGES))
	@rm -rf bin/results; mkdir -p bin; start=$$SECONDS; status=passed; \
	$(MAKE) --no-print-directory -k lint unit kernel vm fuzz 2>&1 | tee bin/test.log || status=FAILED; \
	$(GO) tool testreport bin/results/*.json | tee -a bin/test.log; \
	echo "weft: tests $$status: $$(grep -c '^ok ' bin/test.log) ok, $$(grep -c '^FAIL	' bin/test.log) failed, in $$((SECONDS-start)) s; all output is in bin/test.log"; \
	[ $$status = passed ]

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@echo "== gofmt, go vet, staticcheck"
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go' 2>/dev/null || find . -name '*.go')); [ -z "$$unformatted" ] || { echo "not formatted: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: unit
unit: ## tests that need no privileges, under the race detector
	@echo "== tests without a network, with -race"
	CGO_ENABLED=1 $(GO) test -json -race -timeout 4m $(PURE) | $(GO) tool testreport -o bin/results/unit.json

.PHONY: kernel
kernel: ## tests that build networks: as root, also as an ordinary user
	@echo "== tests that build networks"
	$(GO) test -json -timeout 9m $(KERNEL) | $(GO) tool testreport -o bin/results/kernel.json

.PHONY: vm
vm: build ## tests under Debian's kernel, in a virtual machine; skipped where there can be none, but not if CI is set
	@echo "== tests under Debian's kernel, in a virtual machine"
	@if $(GO) tool vm -fetch 2>bin/vm.log; then $(call inVM); \
	elif [ -n "$$CI" ]; then cat bin/vm.log; exit 1; \
	else $(GO) tool testreport -o bin/results/vm.json -skipped "$$(sed -n 's,^vm: ,,p' bin/vm.log | head -n 1)"; fi

# inVM runs VM_TESTS in virtual machines, as long as there is time.
define inVM
{ status=0; $(GO) test -json -count=1 -timeout $(VM_SECONDS)s $(MACHINES) || status=1; \
for t in $(foreach t,$(VM_TESTS),'$t'); do \
	IFS=: read -r package pattern flags <<<"$$t"; \
	WEFT_E2E_PROGRAM=$(CURDIR)/bin/weft $(GO) test -json -count=1 -timeout 0 \
		-exec "$(GO) tool vm -timeout $$(($(VM_SECONDS)-SECONDS))s $${flags//,/ } --" "$$package" -run "$$pattern" || status=1; \
done; exit $$status; } | $(GO) tool testreport -o bin/results/vm.json
endef

.PHONY: fuzz
fuzz: ## every fuzz target, FUZZTIME each
	@echo "== fuzzing, $(FUZZTIME) each"
	@for f in $(FUZZ); do \
		out=$$($(GO) test -run '^$$' -fuzz "^$${f#*:}$$" -fuzztime $(FUZZTIME) "$${f%:*}" 2>&1) || { echo "$$out"; exit 1; }; \
		echo "$$(tail -n 1 <<<"$$out") $${f#*:}"; \
	done

.PHONY: bench
bench: build ## measure against Mininet, if it is installed; as root
	$(GO) run ./bench

.PHONY: man
man: ## renew man/weft.1 and the golden files of the command line
	$(GO) test ./cmd/weft -update

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

# install installs those of the Debian packages $(1) that are missing.
define install
missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
if [ -z "$$missing" ]; then :; \
elif ! command -v apt-get >/dev/null; then echo "this is not Debian; install what these packages hold: "$$missing >&2; \
elif [ $$(id -u) != 0 ]; then echo "install these first: sudo apt-get install "$$missing >&2; exit 1; \
else apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing </dev/null; fi
endef
