# Two commands on a machine with Python 3.11 to 3.13 and nothing else: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { command -v $$p; break; }; done)
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

.PHONY: help demo test test-all check catalogue pytest debian linter schema-tools spark install release clean

help:
	@echo 'make demo   a throwaway database, partitioned before your eyes, then the UI (ARGS=--once: without UI)'
	@echo 'make test   everything a change must pass: format, lint, types, import contract, tests'
	@echo 'make test-all  what takes longer: every PostgreSQL that is here, and the demo from end to end'
	@echo 'make release  dist/: the wheel, and the versions of all packages that it was tested with'
	@echo 'make clean  removes .venv and caches'

$(STAMP): pyproject.toml uv.lock
	@if [ -z '$(PYTHON)' ]; then \
		echo 'make: no Python 3.11, 3.12 or 3.13 found on PATH. Install one, or name it: make PYTHON=/path/to/python3' >&2; exit 1; fi
	@echo 'Setting up $(VENV) with $(PYTHON) ...'
	@$(PYTHON) -m venv $(VENV) || { \
		echo 'make: $(PYTHON) -m venv failed. On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check uv || { \
		echo 'make: installing uv failed. Is the Python package index reachable (proxy, certificate)?' >&2; exit 1; }
	@$(RUN)/uv sync --frozen --quiet --compile-bytecode --extra sandbox --extra cold --python $(RUN)/python || { \
		echo 'make: installing the packages of uv.lock failed; the lines above name the package' >&2; exit 1; }
	@touch $@

install: $(STAMP)

demo: $(STAMP)
	@exec $(RUN)/lifecycle demo $(ARGS)

test: check pytest

check: $(STAMP)
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/lint-imports

# Takes new texts into the catalogues of translations; translate what is empty afterwards.
CATALOGUES := lifecycle/locale
catalogue: $(STAMP)
	$(RUN)/pybabel --quiet extract --no-wrap --sort-output --add-location=file -k numbered:1,2 -k translatable -k Phrase \
		-o $(CATALOGUES)/lifecycle.pot lifecycle resources assets sensors orchestration
	$(RUN)/pybabel --quiet update --no-wrap --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date -D lifecycle -d $(CATALOGUES) \
		-i $(CATALOGUES)/lifecycle.pot
	@rm $(CATALOGUES)/lifecycle.pot

# On one version of PostgreSQL: the system's where it is 15, the nearest to production, else the one of the wheel.
pytest: $(STAMP)
	LIFECYCLE_TEST_SERVERS=$${LIFECYCLE_TEST_SERVERS-one} \
		$(RUN)/pytest --numprocesses $(WORKERS) --dist worksteal -m 'not every_version' $(ARGS)

# Tests that need them fail without. Only root can install them; others ask their administrator.
DEBIAN := pgbouncer libfaketime nginx openssl default-jre-headless systemd
debian:
	@dpkg -s $(DEBIAN) >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] || { apt-get update -qq && apt-get install -qq -y $(DEBIAN) >/dev/null; }

# Supabase's command line, for its linter; a test fails without.
LINTER := $(VENV)/linter/node_modules/.bin/supabase
$(LINTER): | $(STAMP)
	@command -v npm >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && apt-get install -qq -y npm >/dev/null; }
	@npm install --prefix $(VENV)/linter --no-save --no-audit --no-fund --silent supabase@2.117.0 || \
		echo 'make: Supabase'"'"'s linter was not installed: tests/test_splinter.py will fail' >&2
linter: $(LINTER)

# What `supabase db diff` compares schemas with. Its last release needs older packages than ours, so it has its own.
SCHEMA_TOOLS := $(VENV)/schema-tools
$(SCHEMA_TOOLS)/.installed: | $(STAMP)
	@$(RUN)/uv venv --quiet --clear --python $(RUN)/python $(SCHEMA_TOOLS)
	@$(RUN)/uv pip install --quiet --python $(SCHEMA_TOOLS)/bin/python \
		migra==3.0.1663481299 schemainspect==3.1.1663587362 sqlbag==0.1.1617247075 \
		'sqlalchemy==1.4.54' 'setuptools==80.10.2' 'psycopg2-binary==2.9.13' && touch $@ || \
		echo 'make: migra was not installed: tests/test_schema_comparison.py will fail' >&2
schema-tools: $(SCHEMA_TOOLS)/.installed

# Reads the files of cold months as others do.
SPARK := $(VENV)/.spark-installed
$(SPARK): $(STAMP)
	@$(RUN)/uv sync --frozen --quiet --extra sandbox --extra cold --group spark --python $(RUN)/python && touch $@ || \
		echo 'make: PySpark was not installed: tests/test_cold_reading_spark.py will fail' >&2
spark: $(SPARK)

# What `make test` leaves out: the same tests on the other versions, and the heavy ones on all. Of these many wait for daemons,
# so one more at a time.
test-all: $(STAMP) debian $(LINTER) $(SCHEMA_TOOLS)/.installed $(SPARK)
	LIFECYCLE_TEST_SERVERS=$${LIFECYCLE_TEST_SERVERS-others} \
		$(RUN)/pytest --numprocesses $(WORKERS) --dist worksteal -m 'not every_version and not one_server' $(ARGS)
	$(RUN)/pytest --numprocesses $$(($(WORKERS) + 1)) --dist worksteal -m every_version $(ARGS)

# What an adopter installs: the wheel, and the versions of all packages that the tests ran with.
DIST ?= dist
release: $(STAMP)
	@rm -rf '$(DIST)'
	@$(RUN)/python -m hatchling build -t wheel -d '$(DIST)'
	@$(RUN)/uv export --quiet --frozen --no-dev --all-extras --no-emit-project --no-hashes --no-annotate --no-header \
		-o '$(DIST)/constraints.txt'

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
