# Everything one types in a clone. The first two install what is missing; `make help` lists the rest.

# pytest processes: the scenarios mostly wait for timers of the kernel, and their waits run side by side.
WORKERS ?=
CORES := $(shell nproc 2>/dev/null || echo 2)
# One takes up to 100 MB.
WAITING := $(shell awk '/^MemAvailable/ { n = int($$2 / 100000); print (n < 4 ? 4 : n > 48 ? 48 : n) }' /proc/meminfo 2>/dev/null)
ARGS ?=
VENV ?= .venv
KERNELS ?=
PYTHON ?=
# How long the tests that boot other kernels may take, in seconds: those that come later are left out, and named. Empty: as
# long as they take.
VM_SECONDS ?=
# How long `make fuzz` takes, in seconds of the processor.
FUZZ_SECONDS ?= 3600

RUN = "$(VENV)/bin/python" -m
INSTALL = VENV="$(VENV)" PYTHON="$(PYTHON)" sh .ci/install
SOURCES = $(wildcard harness scenarios tests bench conftest.py docs/conf.py docs/extension)
# The tool that writes the lock is not part of what is installed.
LOCK_TOOL = uv==0.13.9

export PYTHONUNBUFFERED = 1
export VM_SECONDS
# Many processes import the same modules, and each would compile them again: half of what a worker's start costs.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help scenarios test test-vm fuzz pythons faults mutants vagrant claims report docs docs-links matrix schema check format bench repeat install testing venv lock clean

help: ## what can be typed
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
	@echo 'For example: make scenarios WORKERS=4 ARGS="-k capacity"'

scenarios: install ## settle the claims on the running kernel
	$(RUN) pytest scenarios/ -n $(or $(WORKERS),$(WAITING),16) --dist worksteal $(ARGS)

test: install testing ## the tests of the harness itself; some boot two other kernels, which are fetched to the user's cache
	$(RUN) pytest tests/ -n $(or $(WORKERS),$(shell expr 3 '*' $(CORES))) --dist worksteal -rs $(ARGS)

test-vm: install ## only those that boot other kernels
	$(RUN) pytest tests/vm $(ARGS)

fuzz: install ## what others may hand over, made and mutated for FUZZ_SECONDS; what was found is in out/fuzz; ARGS="TARGET…"
	@$(INSTALL) fuzzing
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(RUN) tests.fuzz $(ARGS)

pythons: install ## the fast tests on other Pythons and with the oldest packages that are declared; ARGS="3.13 lowest"
	$(RUN) tests.pythons $(ARGS)

faults: install ## what is broken on purpose while it runs, and what must remain; ARGS="NAME…"
	$(RUN) bench.faults $(ARGS)

mutants: install ## kernels with a defect each, and the claim that notices; ARGS="NAME…", a mutant or a group
	@$(INSTALL) mutants
	$(RUN) bench.mutants $(ARGS)

vagrant: venv ## the scenarios in a machine of Vagrant for each of KERNELS, and one report of all
	@$(INSTALL) vagrant
	exec "$(VENV)/bin/harness" vagrant run --with-parent $(KERNELS) $(if $(WORKERS),--workers $(WORKERS)) $(if $(ARGS),--args '$(ARGS)')

claims: install ## docs/claims.md and claims.zh.md: the documents corrected, from the evidence of `make scenarios`
	"$(VENV)/bin/harness" claims --output docs/claims.md --chinese docs/claims.zh.md $(ARGS)

report: install ## report.html: the results of `make scenarios` to look at
	"$(VENV)/bin/harness" report $(ARGS)

schema: venv ## docs/*.schema.json: the schemas of evidence, snapshots, diagnoses and remedies, from their types
	$(RUN) harness.evidence.json_schema harness.evidence.types:EvidenceFile > docs/evidence.schema.json
	$(RUN) harness.evidence.json_schema harness.incident.snapshot_file:SnapshotFile > docs/snapshot.schema.json
	$(RUN) harness.evidence.json_schema harness.diagnosis.findings:Diagnosis > docs/diagnosis.schema.json
	$(RUN) harness.evidence.json_schema harness.desk.table:RemedyTable > docs/remedies.schema.json

docs: venv ## build/site: the documentation as a site; a warning is an error
	$(RUN) sphinx -q -E -W --keep-going -b html docs build/site
	@echo build/site/index.html

docs-links: venv ## do the links of the documentation to other places lead somewhere?
	$(RUN) sphinx -q -b linkcheck docs build/links

matrix: venv ## docs/matrix.json: what is on the pages of the matrix, with the evidence of ARGS="DIR…" in it
	"$(VENV)/bin/harness" matrix --add-to docs/matrix.json -o docs/matrix.json $(ARGS)

check: venv ## format, lint, types, and the borders of the rooms
	$(RUN) ruff format --check $(SOURCES)
	$(RUN) ruff check $(SOURCES)
	$(RUN) mypy $(wildcard harness scenarios tests bench conftest.py)
	"$(VENV)/bin/lint-imports" --no-logo

format: venv ## reformat, and mend what ruff can mend
	$(RUN) ruff check --fix-only --quiet $(SOURCES)
	$(RUN) ruff format $(SOURCES)

bench: install ## side by side with what one would take instead
	$(RUN) bench $(ARGS)

repeat: install ## how often tests fail, alone and on a busy machine; ARGS="--times 20 --under alone,busy -- scenarios/ -n 8"
	$(RUN) bench.repeat $(ARGS)

install: ## the virtual environment, and with the right to do so the programs
	@$(INSTALL) programs venv

testing:
	@$(INSTALL) testing plugins fuzzing

venv: ## the virtual environment alone
	@$(INSTALL) venv

lock: venv ## write the locks anew, with the newest releases; lowest.lock with the oldest that are declared
	$(RUN) pip install --quiet --quiet --no-cache-dir '$(LOCK_TOOL)'
	UV_CUSTOM_COMPILE_COMMAND='make lock' $(RUN) uv pip compile --quiet --no-cache --universal --python-version 3.11 \
	    --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links --upgrade \
	    --output-file requirements.lock pyproject.toml
	UV_CUSTOM_COMPILE_COMMAND='make lock' $(RUN) uv pip compile --quiet --no-cache --universal --python-version 3.11 \
	    --group plugins --no-deps --generate-hashes --no-emit-index-url --no-emit-find-links --upgrade \
	    --output-file plugins.lock
	UV_CUSTOM_COMPILE_COMMAND='make lock' $(RUN) uv pip compile --quiet --no-cache --universal --python-version 3.11 \
	    --group fuzz --no-deps --generate-hashes --no-emit-index-url --no-emit-find-links --upgrade \
	    --output-file fuzz.lock
	UV_CUSTOM_COMPILE_COMMAND='make lock' $(RUN) uv pip compile --quiet --no-cache --universal --python-version 3.11 \
	    --extra incidents --extra report --group lowest --resolution lowest-direct --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --upgrade --output-file lowest.lock pyproject.toml

clean: ## remove what was installed and what the runs left, evidence apart
	@$(INSTALL) clean
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find harness scenarios tests bench . -maxdepth 6 -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
