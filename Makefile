PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install train test test-slurm lint bench clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv and install the package with its tools into it

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt torch torchvision -e '.[dev]'
	touch $@

train: $(STAMP) ## Train the denoiser and its predictor: make train ARGS="seed=1 run_name=one"
	$(BIN)/python -m tpdm.train model=dit predictor=vit $(ARGS)

test: $(STAMP) ## Run the tests: make test ARGS="-k registry"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ARGS)

test-slurm: $(STAMP) ## Run sweeps on a one-node SLURM, installed if need be; needs root
	tests/slurm/run $(BIN)/python $(ARGS)

lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## Time a rollout against the plain loop
	$(BIN)/python -m tpdm.benchmark suite=rollout $(ARGS)

clean: ## Remove what make and the tests made; runs stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find tpdm tests -name __pycache__ -type d -prune -exec rm -rf {} +
