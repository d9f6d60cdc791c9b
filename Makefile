# Thin on purpose: every target is one command that can be typed by hand.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-all bench lint browser clean

demo: $(READY)            ## the whole system on this machine, with a small company of really trained models
	$(BIN)/deltadex demo

test: $(READY) browser    ## everything but the slow proofs
	$(BIN)/python -m pytest -m "not slow"

test-all: $(READY) browser ## with fault injection and scale
	$(BIN)/python -m pytest

bench: bench-engine bench-quality bench-store bench-clusters bench-dashboard

bench-%: $(READY)
	$(BIN)/python -m benchmarks.$*

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The end-to-end tests drive a real browser.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; \
	  else echo "make test needs Chromium: install the package 'chromium' of your system" >&2; exit 1; fi

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	$(BIN)/python -m pip check
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
