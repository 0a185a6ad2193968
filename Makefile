# Two commands for a newcomer, on a machine that has python3 and a network:
#
#   make demo    build, kill an agent, resume it, look at the state: in a file, then on a server
#   make test    the whole suite, against real servers on free loopback ports
#
# Every command makes the virtual environment it needs and brings it up to date. On Debian and
# Ubuntu, missing system packages (python3-venv, python3-dev, gcc) are installed when that needs no
# password. `make PYTHON=python3.12` picks another interpreter.

PYTHON ?= python3
VENV ?= .venv
DEMO ?= .venv-demo
PYTEST_ARGS ?=
BENCH ?= bench
PIP_INSTALL = -m pip install --quiet --quiet --disable-pip-version-check

python = $(VENV)/bin/python
sources := $(shell find swarmstate ext -name '*.py' -o -name '*.py[xdi]' -o -name '*.px[di]')
extension := $(shell find ext -type f)

.DEFAULT_GOAL := help
.PHONY: help demo test lint stubs map format typecheck docs dist build bench bench-disk bench-peers bench-savers bench-growth bench-memories bench-sessions bench-codecs bench-serializer bench-record bench-plots clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 16

demo: $(DEMO)/.ready ## Kill an agent between two steps and resume it: in a file, then on a private server
	@$(DEMO)/bin/python examples/resume_after_crash.py
	@echo
	@$(DEMO)/bin/python examples/resume_after_crash.py --server

# Three processes on two cores: a quarter of the time passes with waiting for servers.
# Tests start many interpreters, each of which would compile the package again.
test: export PYTHONDONTWRITEBYTECODE =
test: build ## Run the whole suite (PYTEST_ARGS="-k words" to narrow it)
	$(python) -m pytest -p no:benchmark -n 3 --dist worksteal $(PYTEST_ARGS)

lint: build ## Check style and types: ruff, mypy --strict, pyright
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy --strict
	$(python) -m pyright --pythonpath $(python)

stubs: build ## Write the stubs of the stores, after one of their methods has changed
	PYTHONPATH=tests/support:examples $(python) tests/support/stubs.py
	$(python) -m ruff format --quiet swarmstate/backends/*/store.pyi

map: ## Show what each source file holds
	@$(PYTHON) tests/support/house.py

format: build ## Rewrite the sources in the one style
	$(python) -m ruff check --fix
	$(python) -m ruff format

docs: build ## Build the documentation site into site/: strict, with search and the API reference
	NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build

# The moment of the last commit: every build of it is then the same to the byte.
dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
dist: $(VENV)/.ready ## Build an sdist, and a wheel from that sdist, into dist/
	rm -rf dist
	$(python) -m build

build: $(VENV)/.built ## Make .venv: an editable install with everything for development

bench: build ## Measure: BENCH=a file, BENCH_ARGS="--benchmark-save=before" keeps the run
	$(python) -m pytest $(BENCH) --benchmark-only --benchmark-columns=median,iqr,ops,rounds \
	    --benchmark-group-by=group --benchmark-sort=name $(BENCH_ARGS)

bench-disk: build ## Compare DiskStore with others that keep state in a file (BENCH_ARGS="savers put" narrows it)
	PYTHONPATH=bench:bench/savers:bench/peers:tests/support:examples $(python) bench/disk $(BENCH_ARGS)

bench-peers: build ## Compare with the Rust package of the same name, in memory and on Redis
	PYTHONPATH=bench:tests/support:examples $(python) bench/peers $(BENCH_ARGS)

bench-savers: build ## Compare the LangGraph saver with the others (BENCH_ARGS="redis get_tuple" narrows it)
	PYTHONPATH=bench:tests/support:examples $(python) bench/savers $(BENCH_ARGS)

bench-growth: build ## Measure the saver's calls in threads of 10 to 10,000 checkpoints, and in stores of as many threads
	PYTHONPATH=bench:bench/savers:tests/support:examples $(python) bench/savers/growth.py $(BENCH_ARGS)

bench-memories: build ## Compare LangGraph's long-term memory with the others
	PYTHONPATH=bench:tests/support:examples $(python) bench/memories $(BENCH_ARGS)

bench-sessions: build ## Compare logs, and the sessions of four frameworks with their own (BENCH_ARGS="ADK turn" narrows it)
	PYTHONPATH=bench:tests/support:examples $(python) bench/sessions $(BENCH_ARGS)

bench-codecs: build ## Compare the codecs with the bare libraries, which check less
	PYTHONPATH=bench $(python) bench/test_codecs.py

bench-serializer: build ## Compare the serializer in C with LangGraph's own
	$(python) bench/test_serializer.py

bench-record: build ## Measure what the charts show, on a machine that has nothing else to do
	PYTHONPATH=bench:bench/savers:tests/support:examples $(python) bench/record $(BENCH_ARGS)

bench-plots: build ## Draw the charts of the newest run in bench/results, light and dark
	$(python) bench/record/charts.py

clean: ## Remove everything that was built, the virtual environments included
	rm -rf $(VENV) $(DEMO) build dist site *.egg-info swarmstate/*.so

# Virtual environments, each with a stamp that is older than what it depends on when it must be redone.

$(DEMO)/.ready: $(sources) pyproject.toml setup.py
	@bash .ci/prerequisites $(PYTHON)
	@echo "making $(DEMO) and building swarmstate in it (a minute or so, once)"
	@$(PYTHON) -m venv $(DEMO)
	@$(DEMO)/bin/python $(PIP_INSTALL) --upgrade "pip>=25.1"
	@$(DEMO)/bin/python $(PIP_INSTALL) ".[redis,langgraph]" --group demo
	@touch $@

$(VENV)/.ready: pyproject.toml setup.py
	@bash .ci/prerequisites $(PYTHON)
	@echo "making $(VENV) and building swarmstate in it (a minute or two, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(python) $(PIP_INSTALL) --upgrade "pip>=25.1"
	@$(python) $(PIP_INSTALL) --group dev
	@# setuptools warns that folders beside the package could shadow it; none has a package's name.
	@PYTHONWARNINGS=ignore::UserWarning $(python) $(PIP_INSTALL) --no-build-isolation --editable ".[all]"
	@touch $@

# An editable install sees changed Python at once; changed Cython has to be compiled.
$(VENV)/.built: $(VENV)/.ready $(extension)
	$(python) setup.py --quiet build_ext --inplace
	@touch $@
