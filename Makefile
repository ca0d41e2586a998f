# One target per thing that a person or a machine wants of this repository; `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help run test check advisories suites simulate soak compare bench-store garage fuzz deps fmt

TOOLS := target/tools/bin
VENV := target/venv/bin

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build for speed and start everything on this machine (data/ holds it)
	@scripts/deps.sh build
	cargo build --release --locked
	@target/release/tidegate up

test: ## The tests in Rust
	@scripts/deps.sh build test
	cargo test --locked

check: ## Format, lints, docs, licences, unused dependencies, config samples
	@scripts/deps.sh build check
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
	$(TOOLS)/cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	$(TOOLS)/cargo-shear --locked --deny-warnings
	cargo test --locked --quiet --test cli sample_configuration
	scripts/check-shell.sh

advisories: ## Known vulnerabilities in dependencies; needs the advisory database, so it runs on GitHub
	@scripts/deps.sh check
	$(TOOLS)/cargo-deny --locked check advisories

suites: ## Real clients and a real browser against the real binary
	@scripts/deps.sh build suites
	cargo build --locked
	$(VENV)/python -m pytest tests/clients

simulate: ## The cache engine under SIMULATION_SEEDS (100000) seeds, its disk tier through DISK_MODEL_STEPS (1000000)
	@scripts/deps.sh build
	SIMULATION_SEEDS=$${SIMULATION_SEEDS:-100000} cargo test --locked --lib simulation -- --nocapture
	DISK_MODEL_STEPS=$${DISK_MODEL_STEPS:-1000000} DISK_DAMAGE_CASES=$${DISK_DAMAGE_CASES:-10000} \
		cargo test --locked --lib cache::disk::tests -- --nocapture

soak: ## Tests at full size, by hand: clients, seeds, crashes; SOAK="fleet" runs only that
	@scripts/deps.sh build test suites soak
	@scripts/soak.sh

compare: ## CPU per request beside nginx, Varnish, Traffic Server and HAProxy; COMPARE="h1 miss" runs only these
	@scripts/deps.sh build compare
	cargo build --release --locked
	python3 benches/compare

bench-store: ## The store: PUT, GET, LIST and memory beside disk, hash, database, nginx and Garage; BENCH_STORE="gets" runs only that
	@scripts/deps.sh build compare
	cargo build --release --locked
	python3 benches/store $(BENCH_STORE)

garage: ## Build Garage (half an hour), so that bench-store measures it, too
	@scripts/deps.sh build
	cargo install --locked --root target/rivals garage@2.5.0

fuzz: ## Look for inputs that break a parser, FUZZ_SECONDS (60) for each
	@scripts/deps.sh build fuzz
	@scripts/fuzz.sh

deps: ## Install what is missing, or say how
	@scripts/deps.sh build test check suites

fmt: ## Format the sources
	cargo fmt
