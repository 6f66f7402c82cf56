# One command each for running, testing, linting and measuring. CI calls the same ones (.ci/run).
.PHONY: demo setup lint test test-rust test-e2e bench bench-evidence screenshots clean

RELEASE := $(CURDIR)/target/release/lokid
export LOKID_BIN ?= $(RELEASE)

demo: ## Everything on an embedded default
	cargo run --release -- demo

setup: ## Install what the tests need where it is missing
	bash .ci/setup

lint: ## Format, lints, licences and advisories
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	bash .ci/deny

test: setup lint test-rust test-e2e ## Everything

test-rust: ## Unit and integration tests, on SQLite and PostgreSQL
	cargo test --locked

test-e2e: ## The release binary (or LOKID_BIN), a certified provider, a real browser
	[ "$(LOKID_BIN)" != "$(RELEASE)" ] || cargo build --release --locked
	cd e2e && npm test

bench: ## Ratios measured side by side in one run
	cargo bench --locked --bench door
	cargo bench --locked --bench cluster

bench-evidence: ## The same of an audit log of ten million entries, on SQLite and PostgreSQL; takes about half an hour
	cargo bench --locked --bench evidence
	cargo bench --locked --bench evidence -- postgres

screenshots: ## Every page at 1280 and 390 px, light and dark, in e2e/out
	cargo build --release --locked
	cd e2e && npm run screenshots
