# Thin on purpose: every target is one command that can be typed by hand.
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-fast test-all test-faults test-install bench lint audit docs lock pictures browser clean

demo: $(READY)            ## the whole system on this machine, with a small company of really trained models
	$(BIN)/deltadex demo

# A process for each of two cores, and tests of one file in one process. What a browser looks at runs alone: pages that
# wait for a processor would be late.
PYTEST := OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadgroup

test: $(READY) browser    ## everything but the slow proofs
	$(PYTEST) -m "not browser and not slow and not install"
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "browser and not slow"

test-fast: $(READY)       ## what needs no services, no models and no browser: under two minutes
	$(PYTEST) -m "not services and not torch and not browser and not slow and not install"

test-all: $(READY) browser ## with fault injection and scale
	$(PYTEST) -m "not browser and not install"
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m browser

test-faults: $(READY)     ## bursts of registrations while services are killed, hang, fail or find a full disk; prints a table
	FAULT_BURST=20 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest tests/e2e/test_faults.py tests/ingest/test_killed_steps.py

test-install: $(READY)    ## set-up from the public index for each Python here (INTERPRETERS="…"); logins of MLflow and its newest version
	$(BIN)/python -m pytest -m install

bench: bench-engine bench-real bench-store bench-clusters bench-dashboard bench-backfill

bench-%: $(READY)
	$(BIN)/python -m benchmarks.$*

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# --strict: a package that the service doesn't know is an error too, as where only a mirror can be reached.
audit: $(READY)           ## known vulnerabilities of everything in the lock, by PyPI's service
	@$(BIN)/python -m pip_audit --strict --disable-pip --require-hashes --progress-spinner off --requirement requirements.lock || \
	  { echo "make audit: a vulnerability is listed above, or PyPI's service was not reached and nothing is known" >&2; exit 1; }

docs: $(READY)            ## the pages of docs/ and of the Python API, into site/
	$(BIN)/python -m mkdocs build --strict

pictures: $(READY)        ## the pictures of README and docs, of a `make demo` that runs
	$(BIN)/python -m benchmarks.pictures

# The end-to-end tests drive a real browser; CHROMIUM=/path names one that is not on the path.
browser:
	@command -v $(CHROMIUM) chromium chromium-browser google-chrome >/dev/null || \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; \
	  else echo "make test needs Chromium, for its browser tests: install it (Debian: apt install chromium; macOS: brew install --cask chromium), or name it by CHROMIUM=/path" >&2; exit 1; fi

$(READY): requirements.lock pyproject.toml deploy/install.sh
	@deploy/install.sh .venv
	@touch $@

# The newest of everything that pyproject.toml allows and the lock does not hold back: remove lines from the lock first.
lock:
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra embed --extra quantized --extra merge --extra evidence --extra privacy --extra mcp --extra s3 --extra flows --extra dashboard --extra embedded \
	  --group dev --group docs --group install pyproject.toml --output-file requirements.lock
	awk 'NR == FNR { known["--hash=sha256:" $$1]; wheels = wheels " \\\n    --hash=sha256:" $$1; next } \
	  $$1 in known { next } { sub(/^torch==[^ ]+/, "&" wheels) } 1' \
	  deploy/torch-cpu.sha256 requirements.lock > requirements.lock.new && mv requirements.lock.new requirements.lock

clean:
	rm -rf site .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
