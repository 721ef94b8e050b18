# Needs make and Python 3.11 or newer; everything else is installed into .venv from the lock file.
PYTHON ?= python3
PRESET ?=
# debug (each task in one process), local (in several) or slurm (jobs, see docs/clusters.md).
LAUNCHER ?= debug
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# As one word of the shell, whatever is in it.
quoted = '$(subst ','\'',$(1))'
# No PRESET: the one that params.yaml names.
SET_PRESET := $(if $(PRESET),PCB_PRESET=$(call quoted,$(PRESET)))
WORKFLOW := PCB_LAUNCHER=$(call quoted,$(LAUNCHER)) $(BIN)/python -m pcb workflow

.PHONY: help reproduce smoke report restore publish readme verify-metrics bench bench-check test lint format install lock clean

help:  ## list these targets
	@grep -E '^[a-z-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

reproduce: $(INSTALLED)  ## run everything from data to report; the same command again resumes
	$(SET_PRESET) $(WORKFLOW)

smoke: $(INSTALLED)  ## run every stage in about a minute; the numbers mean nothing
	PCB_PRESET=smoke $(WORKFLOW)

report: $(INSTALLED)  ## make only the tables, figures and the page again
	$(SET_PRESET) $(BIN)/python -m pcb report --force

restore: $(INSTALLED)  ## fetch a preset's published results instead of making them, and verify
	$(SET_PRESET) $(BIN)/python -m pcb restore
	$(SET_PRESET) $(BIN)/python -m pcb report --force

publish: $(INSTALLED)  ## record a finished preset in DVC and git, and push both
	$(SET_PRESET) $(BIN)/python -m pcb publish

readme: $(INSTALLED)  ## put the measured table and pictures of the report into README.md
	$(SET_PRESET) $(BIN)/python -m pcb readme

verify-metrics: $(INSTALLED)  ## download ADM's samples (12 GB); compare with its published scores
	$(BIN)/python -m pcb fetch inception adm-reference adm-samples
	$(BIN)/python -m pcb verify-metrics

bench: $(INSTALLED)  ## time the program's parts, beside what this machine could do at best
	$(BIN)/python -m benchmarks

bench-check: $(INSTALLED)  ## time them and compare with the stored ratios
	$(BIN)/python -m benchmarks --check

# What starts services or Snakemake has processes of its own and waits by the clock: no more than two
# at a time, and the tests of a file, which share what they started, one after another.
STARTERS := service or workflow

test: lint  ## check style and types, then run the tests
	status=0; \
	$(BIN)/python -m pytest -m "not ($(STARTERS))" -n auto --maxprocesses 4 --dist worksteal || status=$$?; \
	$(BIN)/python -m pytest -m "$(STARTERS)" -n 2 --dist loadfile || status=$$?; \
	exit $$status

lint: $(INSTALLED)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy

format: $(INSTALLED)  ## put the code into the form that lint expects
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

install: $(INSTALLED)  ## make .venv and install the locked packages into it

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pcb: needs Python 3.11 or newer; give one with: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

lock: $(INSTALLED)  ## choose package versions anew (needs uv)
	uv pip compile pyproject.toml --extra workflow --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements.lock

clean:  ## delete caches and logs; results and reports stay
	rm -rf .snakemake .pcb logs .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find pcb tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
