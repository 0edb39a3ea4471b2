# llm-budget. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
RELEASE ?= trixie
EXAMPLES ?= 10
VENV := .venv
BIN := $(VENV)/bin
# As modules: a script that starts with #! cannot name a Python whose path is long or has blanks.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
VENV_IS := $(BIN)/python -I -X utf8 -c 'import sys; print(sys.prefix, *sys.version_info[:2])' 2>/dev/null

.NOTPARALLEL:
.PHONY: help install up demo test test-faults test-versions test-fresh fuzz bench bench-forecast golden lint fmt check clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST) | \
	  if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi

install: $(VENV)/.runtime ## build .venv with the services and the llm-budget command

# A stamp stands for a whole venv at this path, and says which: what was cut short has none, and one
# that was moved, or whose Python is gone, has the wrong one. Both are made anew, since pip takes a
# package for installed that it has copied half of.
ifneq ($(shell $(VENV_IS)),$(shell cat $(VENV)/.runtime 2>/dev/null))
.PHONY: $(VENV)/.runtime $(VENV)/.dev
endif

$(VENV)/.runtime: requirements.txt pyproject.toml
	$(call build,requirements.txt)
	@$(VENV_IS) > $(VENV)/.runtime

$(VENV)/.dev: requirements-dev.txt requirements.txt pyproject.toml
	$(call build,requirements-dev.txt)
	@touch $(VENV)/.dev
	@$(VENV_IS) > $(VENV)/.runtime

define build
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
  { echo "llm-budget needs Python 3.11 or newer; name one with make PYTHON=…" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
  as_root=; [ "$$(id -u)" = 0 ] || as_root='sudo -n'; \
  $$as_root apt-get update -q && $$as_root apt-get install -y -q python3-venv; } || \
  { echo "this Python has no venv; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
@rm -f $(VENV)/.runtime $(VENV)/.dev && rm -rf $(VENV)
$(PYTHON) -m venv $(VENV)
$(PIP) install -r $(1)
$(PIP) install --no-deps --editable .
endef

up: install ## run the bundle: docker compose where an engine answers, else local processes (Ctrl-C stops)
	@if docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then \
	  $(BIN)/llm-budget up --prepare-only && exec docker compose up --build; \
	else exec $(BIN)/llm-budget up; fi

demo: install ## watch a small budget run out, the config degrade and come back (two minutes)
	@$(BIN)/python -m demo

test: $(VENV)/.dev ## lint, types, rules, unit, end to end; CI runs test-versions after it
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m command.stack.binaries strace chromium chromium-driver
	$(BIN)/python -m pytest

test-faults: $(VENV)/.dev ## kill, cut and crash every part (long)
	@$(BIN)/python -m command.stack.binaries strace
	@$(BIN)/python -m tests.support.versions
	LLM_BUDGET_KEEP_RESULTS=1 $(BIN)/python -m pytest tests/long/faults

test-versions: $(VENV)/.dev ## fetch Prometheus 2.42, 2.53, 3.5 and vmalert into .tools; the rules on each, a loop
	@$(BIN)/python -m tests.support.versions
	$(BIN)/python -m pytest tests/long/versions

test-fresh: install ## make demo and make test in a bare Debian, RELEASE=trixie (root, debootstrap)
	@$(BIN)/python -m tests.support.fresh $(RELEASE)

fuzz: $(VENV)/.dev ## the properties with fresh seeds and EXAMPLES=10 times the examples; SEED=… repeats a run
	@seed=$${SEED:-$$(( RANDOM * 32768 + RANDOM ))}; \
	  echo "make fuzz SEED=$$seed EXAMPLES=$(EXAMPLES) repeats this run"; \
	  LLM_BUDGET_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -m hypothesis \
	    --hypothesis-seed=$$seed --timeout=3600

bench: $(VENV)/.dev ## measure: client, latency, intake, /metrics, rules, crossing to applied, overshoot
	@status=0; for benchmark in client latency ingest metrics rules loop; do \
	  $(BIN)/python -m tests.benchmarks.$$benchmark || status=1; done; exit $$status

golden: $(VENV)/.dev ## write the golden /metrics page and notifications anew, after a change that is meant
	$(BIN)/python -m tests.support.golden_metrics
	$(BIN)/python -m tests.support.notifications

bench-forecast: $(VENV)/.dev ## how good the forecast is, on real days, through the real rules, beside others (ten minutes)
	@test -x $(VENV)/rivals/bin/python || $(PYTHON) -m venv $(VENV)/rivals
	@$(VENV)/rivals/bin/python -m pip --disable-pip-version-check --quiet install -r tests/benchmarks/rivals.txt
	@$(BIN)/python -m tests.benchmarks.forecast --rivals $(VENV)/rivals/bin/python

lint: $(VENV)/.dev ## ruff, mypy --strict
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

fmt: $(VENV)/.dev ## format the code
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

check: install ## check budget.yml, the ladder, rules, alertmanager.yml and contacts together
	@$(BIN)/llm-budget check

clean: ## remove what make built and fetched; data and tokens stay
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
