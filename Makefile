# Everything here needs only Python 3.11, make and, on Debian or Ubuntu, apt; `make` says what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BIN := .venv/bin

# -qq: of what pip says, only the errors.
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq

# The hashes in the lock files are those of the public files, so what this machine has set up for pip stays out of it.
COMPILE := env -u PIP_FIND_LINKS -u PIP_INDEX_URL -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null \
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

.PHONY: help
help: ## This list.
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r goal what; do \
		printf 'make %-8s%s\n' "$$goal" "$$what"; done

.PHONY: demo
demo: .venv/ready ## Show payhook at work against the sandbox: no account, no server, no set-up.
	$(BIN)/payhook demo

.PHONY: test
test: .venv/ready ## Check everything: style, types, import arrows, tests with real servers.
	tests/servers/install.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses=2 --dist=worksteal -m "not alone"
	$(BIN)/pytest -m alone

.PHONY: prove
prove: .venv/ready ## Measure every promise in full, under real kills (about an hour), and write docs/proof.md.
	tests/servers/install.sh
	$(BIN)/python -m tests.proof.prove $(if $(SEED),--seed=$(SEED)) $(if $(ONLY),--only=$(ONLY))

.PHONY: bench
bench: .venv/ready ## Measure beside the naive version, about ten minutes; writes docs/performance.md.
	tests/servers/install.sh
	$(BIN)/python -m benchmarks

.PHONY: story
story: .venv/ready ## Tell one payment's story by its id, from a real run, into docs/operating.md.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.end_to_end.story

.PHONY: lock
lock: .venv/ready ## Bring the lock files up to date with pyproject.toml; UPGRADE=1 takes the newest versions.
	$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file=requirements.lock pyproject.toml
	$(COMPILE) $(if $(UPGRADE),--upgrade) --constraint=requirements.lock --extra=dev --extra=tracing \
		--output-file=requirements-dev.lock pyproject.toml

.PHONY: clean
clean: ## Remove the virtual environment and what the tools have left.
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment for the demo and the tests: payhook's build tool is in the development lock, with its hash.
.venv/ready: .venv/locked pyproject.toml
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/locked: requirements-dev.lock
	@python=""; \
	for name in python3.11 python3 python3.12 python3.13; do \
		if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "payhook needs Python 3.11 or newer" >&2; exit 1; fi; \
	if ! $$python -c 'import ensurepip' 2>/dev/null; then \
		sudo=""; if [ "$$(id -u)" != 0 ]; then sudo=sudo; fi; \
		echo "Installing python3-venv, which Debian keeps apart from Python"; \
		$$sudo apt-get update -q; \
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv </dev/null; \
	fi; \
	echo "Making .venv with $$($$python --version) and installing what requirements-dev.lock names (about half a minute)"; \
	$$python -m venv .venv
	@$(PIP) --require-hashes --requirement requirements-dev.lock
	@touch $@
