# `make evaluate` and `make test` are all that a newcomer needs; each builds what it lacks and rebuilds nothing.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS := $(VENV)/.installed-jobs
INSTALLED := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo evaluate test test-slow test-gpu notebooks docs lint format audit ui clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Installs the extra $(1). Bytecode is compiled on all cores and without the tests of packages: pip takes three times as long.
define pip_install
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[$(1)]'
	@$(BIN)/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib > /dev/null || true
	@touch $@
endef

$(JOBS): pyproject.toml constraints.txt
	$(call pip_install,jobs)

$(INSTALLED): $(JOBS)
	$(call pip_install,dev)

install: $(INSTALLED) ## Create the virtual environment and install everything

demo: $(JOBS) ## Play the embedded clip under two policies and open a page that compares them
	$(BIN)/vitmalis demo $(ARGS)

evaluate: $(JOBS) ## Run the embedded default (ARGS="video=walkS trace=5g" changes it)
	$(BIN)/python evaluate.py $(ARGS)

test: $(INSTALLED) ## Run the quick tests, one process for each core (ARGS="-k link" narrows them)
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-slow: $(INSTALLED) ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

test-gpu: $(INSTALLED) ## On a machine with a CUDA GPU: the tests of the fast path on it, then its times and boxes (minutes)
	$(BIN)/python -m pytest -m "slow or not slow" -k "fused or precision or int8 or device_decoding" tests/detector tests/server $(ARGS)
	$(BIN)/python -m profiling.fused --model vitdet_l --window 9
	$(BIN)/python -m profiling.fused --model vitdet_tiny --width 960 --height 540 --output runs/profiling/fused_tiny.json
	$(BIN)/python -m profiling.fused --model vitdet_l --window 9 --precision int8 --output runs/profiling/fused_int8.json
	$(BIN)/python -m profiling.precision --precisions fp32,bf16,int8,tf32 model.device=cuda model.engine=fused
	$(BIN)/python -m profiling.precision --precisions fp16,bf16,int8,tf32 --output runs/profiling/precision_eager.json model.device=cuda model.engine=eager

notebooks: $(INSTALLED) ## Execute the notebooks (minutes); the pages with their results are in runs/notebooks
	cd notebooks && for book in *.ipynb; do ../$(BIN)/python -m jupyter nbconvert --to html --execute --output-dir ../runs/notebooks $$book || exit 1; done

docs: ## Build the documentation as a site, in build/docs (python3 -m http.server --directory build/docs)
	@test -x .venv-docs/bin/mkdocs || { $(PYTHON) -m venv .venv-docs && .venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'; }
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict

lint: $(INSTALLED) ## Check style, types and what imports what
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo --no-cache

format: $(INSTALLED) ## Rewrite the sources in the project's style
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

audit: ## Look up known vulnerabilities of the pinned versions (asks the package index)
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install --quiet pip-audit; }
	.venv-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

ui: $(JOBS) ## Open the MLflow UI on what has been run
	$(BIN)/vitmalis ui $(ARGS)

clean: ## Remove the virtual environment and caches (runs/ stays)
	rm -rf $(VENV) .venv-audit .venv-docs build .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
