# make report: set everything up, measure the bundled checkpoint, print the address of the page
# make test:   set everything up and run the tests
# make docs:   set everything up and build the site in site/ (NOTEBOOKS=1: with the outputs of the notebooks, in minutes)
# make test-fast: the tests that are quick and need no browser, for the inner loop
PYTHON ?= python3
BIN := .venv/bin

NOTEBOOKS ?= 0

.PHONY: report test test-fast docs check format bench gpu fuzz screenshots lock clean

report: .venv/ready
	$(BIN)/python -m interp.amplify -o reports/tiny-bqbv

# their bytecode is kept even where the environment says otherwise, or each of the processes they start compiles everything
test test-fast docs: export PYTHONDONTWRITEBYTECODE =

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-fast: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not slow and not browser"

docs: .venv/ready
	NOTEBOOKS=$(NOTEBOOKS) $(BIN)/python -m sphinx -q -W --keep-going -c docs . site
	@echo "file://$(CURDIR)/site/index.html"

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/ready
	$(BIN)/python -m tests.bench

gpu: .venv/ready
	$(BIN)/python -m tests.gpu --json gpu.json

fuzz: .venv/ready
	$(BIN)/python -m tests.fuzz

screenshots: .venv/ready
	$(BIN)/python docs/screenshots.py
	$(BIN)/python -m docs.screenshots_notebook

lock: .venv/ready
	$(BIN)/python .ci/lock.py

clean:
	rm -rf .venv reports site jupyter_execute

# torch first and alone: with it in place no other requirement can pull another build of it; bytecode comes with the first
# import, as most of it is never needed
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[samples,notebooks,logging,docs,dev]'
	touch $@
