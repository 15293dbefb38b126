# The same commands as CI runs. `make` alone lists them.
SHELL := /bin/sh
export PATH := $(CURDIR)/.venv/bin:$(PATH)
ENV := .venv/.complete
PACKAGES := pipeline models trainer tools native tests benchmarks docs launch.py
NATIVE := $(wildcard native/pyproject.toml native/CMakeLists.txt native/src/* native/millstream_native/*)

# The rooms of tests, those that take longest first.
LONGEST := tests/trainer/ tests/models/
ROOMS := $(LONGEST) $(filter-out $(LONGEST),$(sort $(dir $(wildcard tests/*/test_*.py))))

.PHONY: help env quickstart test slow check fmt docs wheel $(ROOMS)

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

env: $(ENV)  ## make the environment in .venv (uv, from the lock file)

$(ENV): pyproject.toml uv.lock tools/make_env.sh $(NATIVE)
	sh tools/make_env.sh
	touch $(ENV)

quickstart: $(ENV)  ## train a small DynaMixer on handwritten digits, on the CPU, in minutes
	python tools/make_digits.py data/digits
	python tools/make_shards.py data/digits
	deepspeed --quiet launch.py --config configs/quickstart.yaml
	python tools/preview_batches.py --config configs/quickstart.yaml --output runs/quickstart/batch.png --force
	python tools/plot_run.py runs/quickstart
	python tools/report_run.py runs/quickstart

# Two rooms at a time, since a test keeps one core busy, most of the time; what a room says is shown
# when it has ended.
test: $(ENV)  ## run the whole test suite
	$(MAKE) --jobs=2 --keep-going --output-sync=target --no-print-directory $(ROOMS)

$(ROOMS): $(ENV)
	OMP_NUM_THREADS=1 pytest $@

slow: $(ENV)  ## run the tests that take minutes each
	pytest -m slow

check: $(ENV)  ## formatting, lint and types
	ruff format --check $(PACKAGES)
	ruff check $(PACKAGES)
	pyright

fmt: $(ENV)  ## format and mend what can be mended
	ruff format $(PACKAGES)
	ruff check --fix $(PACKAGES)

# The variable keeps a notice about MkDocs' future out of the output.
docs: $(ENV)  ## build the documentation as a site, into site/
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet --config-file docs/site/mkdocs.yml

wheel: $(ENV)  ## build the wheel into dist/ and try it in an empty environment
	sh tools/try_wheel.sh
