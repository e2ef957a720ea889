# The verbs of this project. CI calls `make test` and nothing else.
#
#   make run      set up and run the MTA with conf/development.toml, everything in var/
#   make test     set up and run all that CI runs (as root it installs the Debian packages that the tests need)
#   make check    format, lint, types, floors, spelling
#   make soak     the crash rig for longer: 200 kills, 45 power cuts
#   make bench    measure side by side with Postfix, Exim and sendmail
#   make docs     generated documentation
#   make clean    remove what the other verbs made (not var/)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
CONFIG := conf/development.toml
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -q
SUITE := tools/suite

# What the tests talk to: other people's servers, clients and tools.
PACKAGES := postfix swaks libnet-ssleay-perl msmtp curl gsasl strace openssl e2fsprogs util-linux unbound nsd ldnsutils \
	mount libeatmydata1 iproute2 sasl2-bin libsasl2-modules libidn12 \
	libgnutls-dane0 libnsl2 libevent-2.1-7

.PHONY: run test check unit properties conversations scenarios real crash soak bench docs clean packages

run: $(VENV)/.run
	@tools/prepare-development $(BIN) $(CONFIG)
	@exec $(BIN)/twistd -n --pidfile= mta --config $(CONFIG)

$(VENV)/bin/python:
	@tools/make-venv $(PYTHON) $(VENV)

$(VENV)/.run: pyproject.toml setup.cfg $(VENV)/bin/python
	@echo "Installing into $(VENV) ..."
	@$(PIP) -e .
	@touch $@

$(VENV)/.test: pyproject.toml setup.cfg $(VENV)/bin/python
	@echo "Installing into $(VENV), with what the tests need ..."
	@$(PIP) -e '.[test,check]'
	@touch $@ $(VENV)/.run

packages:
	@tools/install-packages $(PACKAGES)

test: packages $(VENV)/.test
	@$(MAKE) --no-print-directory check unit properties conversations scenarios real crash

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell mta tests conf docs bench tools README.md CONTRIBUTING.md Makefile

# Each suite has a budget in seconds; one that needs longer fails.
unit: $(VENV)/.test
	$(SUITE) 150 $(PYTEST) tests/unit tests/bad_configs

properties: $(VENV)/.test
	$(SUITE) 150 $(PYTEST) tests/properties

conversations: $(VENV)/.test
	$(SUITE) 120 $(PYTEST) tests/conversations

scenarios: $(VENV)/.test
	$(SUITE) 300 $(PYTEST) tests/scenarios

real: $(VENV)/.test
	$(SUITE) 420 $(PYTEST) tests/interop

crash: $(VENV)/.test
	$(SUITE) 240 $(PYTEST) tests/crash

# The crash rig, long form: about a quarter of an hour.
soak: packages $(VENV)/.test
	MTA_SOAK=1 $(SUITE) 3600 $(PYTEST) tests/crash

# About twenty minutes. BENCH="--quick" for two, "--help" for all options.
# The peers are Debian's packages, so ours runs on Debian's interpreter where there is one: another build of Python is up to a fifth
# slower or faster.
DEBIAN_PYTHON := $(wildcard /usr/bin/python3.11)
BENCH_VENV := $(if $(DEBIAN_PYTHON),.venv-bench,$(VENV))

.venv-bench/.test: pyproject.toml setup.cfg
	@tools/make-venv $(DEBIAN_PYTHON) .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

bench: packages $(BENCH_VENV)/.test
	@tools/install-packages $(BENCH_PACKAGES)
	$(BENCH_VENV)/bin/python bench/run.py $(BENCH)

docs: $(VENV)/.test
	$(BIN)/python -m mta.config.documentation docs/configuration.md

clean:
	rm -rf $(VENV) .venv-bench build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
