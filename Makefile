# `make help` lists what there is to make.

CARGO ?= cargo
# cargo-nextest if it is there, else cargo test, which needs nothing more.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)
KERNEL_TESTS := kernel lvm replay crash

ifeq ($(NEXTEST),yes)
run_tests = $(CARGO) nextest run --no-fail-fast $(1)
else
run_tests = $(CARGO) test --no-fail-fast $(1)
endif

.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-unit test-kernel crash simulate mutants named lint fmt doc bench fuzz clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the four programs, optimised, into target/release
	$(CARGO) build --release --bins

demo: ## Watch two nodes on this machine replicate, fail over and repair themselves
	$(CARGO) build --release --bins --example demo
	@target/release/examples/demo

setup: ## Install the Debian packages that the tests need (asks sudo, if not root)
	@tools/setup.sh

test: setup lint ## Everything: formatting, lints, documentation, all tests, the simulator
	$(call run_tests,)
	$(MAKE) simulate
	$(CARGO) test --doc
	@$(MAKE) --no-print-directory named

test-unit: ## The tests inside src/ only: seconds, no packages, no privileges
	$(call run_tests,--lib)

test-kernel: setup ## The tests with DRBD kernels and LVM, in User-Mode Linux guests; replays every third recorded scenario
	URBD_REPLAY=third $(call run_tests,$(KERNEL_TESTS:%=--test %))

ROUNDS ?= 50
crash: setup ## Kill real nodes at random moments and look for what was acknowledged; ROUNDS of each kind (50)
	URBD_CRASH_ROUNDS=$(ROUNDS) $(call run_tests,--test crash)

SEEDS ?= 1..3001
simulate: ## Lead random lives of two simulated nodes, and look what the faults met; SEEDS=FIRST..END (1..3001)
	$(CARGO) run --quiet --profile simulate --example simulate -- --seeds $(SEEDS)

MUTANTS ?=
mutants: ## Does the simulator find deliberate faults? Hours; MUTANTS='NAME.. --limit SEEDS' for some, or fewer seeds
	$(CARGO) run --quiet --example mutants -- $(MUTANTS)

named: ## Which test or checker names each invariant, fault and trap of the data path, and which have none
	@$(CARGO) test --quiet --test named each -- --nocapture

lint: ## Check formatting, lints and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --quiet

fmt: ## Format the code
	$(CARGO) fmt --all

doc: ## Build the API documentation into target/doc
	$(CARGO) doc --no-deps

# cargo builds the optimised programs for it; `build` has other features of its dependencies, hence other ones.
bench: ## Benchmarks: codecs, then whole requests beside the bare disks (3 minutes, and an optimised build)
	$(CARGO) bench --bench codecs --bench write_path

FUZZ_SECONDS ?= 60
fuzz: ## Fuzz each target for FUZZ_SECONDS (60); needs cargo-fuzz and a nightly toolchain
	URBD_FUZZ_CORPUS=$(CURDIR)/fuzz/corpus $(CARGO) test --quiet --test fuzz_smoke every_parser
	@for target in $$($(CARGO) +nightly fuzz list); do \
	    $(CARGO) +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1500 || exit 1; \
	done

clean: ## Remove what was built
	$(CARGO) clean
