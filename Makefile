# Two commands do everything, set-up included:  make submit   and   make test.     `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PIPELINE ?= dags/pipelines/higgs.yaml
ROWS ?= 250000
SEED ?= 1
# DATA=/path/training.csv takes a file of the 2014 challenge as it is; without it synthetic events are made
DATA ?=
ARGS ?=
# make bench ONLY=exchange runs that one
ONLY ?=
# how many clusters the tests use side by side: 3 GB of memory each, with Airflow
CLUSTERS ?= 2

BIN := build/venv/bin
SYNTHETIC := build/data/higgs-$(ROWS)-$(SEED).csv
INPUT := $(if $(DATA),$(DATA),$(SYNTHETIC))

# Compiled modules are kept: otherwise each of the many processes compiles the package anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help submit test test-fast test-long bench convergence lint format env tools test-tools data doctor
.PHONY: cluster-up cluster-down cluster-status airflow clean distclean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 18

submit: tools $(if $(DATA),,$(SYNTHETIC)) ## train, evaluate and publish on YARN (DATA=file, ROWS=n, PIPELINE=file, ARGS=...)
	@$(BIN)/dkeras submit $(PIPELINE) --data $(INPUT) $(if $(DATA),,--set input.synthetic=true) $(ARGS)

# The unit tests run side by side on all cores; the others with CLUSTERS workers, each of which has a cluster of its own
# (tests/shared/scheduling.py says which files go to one worker, and which begin)
UNIT := $(BIN)/python -m pytest -n auto --dist loadfile -m "not cluster and not slow"
REAL := $(BIN)/python -m pytest -n $(CLUSTERS) --dist loadfile -m "(cluster or slow) and not long"

test: test-tools ## all tests, those on real HDFS and YARN included (ARGS=tests/ml runs those, CLUSTERS=n)
	@$(if $(ARGS),$(BIN)/python -m pytest $(ARGS),$(UNIT) && $(REAL))

test-long: test-tools ## what kills Airflow's and YARN's processes one by one, sweeps and validations: an hour
	@$(BIN)/python -m pytest -m long $(ARGS)

test-fast: test-tools ## the unit tests alone
	@$(UNIT) $(ARGS)

bench: test-tools ## ratios against Keras, raw sockets and other systems (ONLY=name runs one)
	@$(BIN)/python tests/benchmarks/run.py $(ONLY)

convergence: test-tools ## how the algorithms hold as workers grow: docs/convergence.md (ONLY="higgs diloco", QUICK=1)
	@$(BIN)/python tests/convergence/run.py --only "$(ONLY)" $(if $(QUICK),--quick) $(ARGS)

lint: test-tools ## ruff: rules and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: test-tools ## mend what ruff can mend
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

env: tools ## build the training environment (ENV_CHANNEL=conda-forge uses that channel)
	@$(BIN)/dkeras env build

doctor: tools ## check Java, Hadoop, queue, memory and archive before submitting
	@$(BIN)/dkeras doctor $(PIPELINE)

cluster-up: tools ## start the bundle's single-node HDFS and YARN (NODES=2 for a second NodeManager)
	@$(BIN)/dkeras cluster up $(if $(NODES),--nodes $(NODES))

cluster-down: tools ## stop it
	@$(BIN)/dkeras cluster down

cluster-status: tools ## daemons, addresses, web pages
	@$(BIN)/dkeras cluster status

airflow: ## Airflow on this machine with the bundle's DAGs, until Ctrl-C
	@envs/bootstrap.sh airflow
	@$(BIN)/dkeras airflow up --foreground $(ARGS)

tools: ## the tools of the edge node in build/venv
	@envs/bootstrap.sh tools

test-tools: ## the same with the test tools and the training libraries
	@envs/bootstrap.sh test

data: tools $(SYNTHETIC) ## synthetic Higgs events (ROWS=n SEED=n)

$(SYNTHETIC): | tools
	@mkdir -p $(@D)
	@$(BIN)/dkeras data higgs --rows $(ROWS) --seed $(SEED) --output $@

clean: ## stop the cluster and remove its data, keep downloads
	@if [ -x $(BIN)/dkeras ]; then $(BIN)/dkeras airflow down; $(BIN)/dkeras cluster down; fi
	@rm -rf build/airflow/home build/cluster build/data build/py-files build/scratch

distclean: clean ## remove everything that was downloaded or built
	@rm -rf build
