# `make book` and `make test` do everything from nothing but Python and make; bare `make` lists the rest.
PYTHON   ?= python3
VENV     ?= .venv
PROFILE  ?= tiny
PICTURES ?=

BIN       := $(VENV)/bin
INSTALLED := $(VENV)/.installed
VENDOR    := book/_static/vendor
AXE       := _build/test-vendor/axe.min.js
UNPACKED  := _build/vendor
NPM       := npm pack --silent --fetch-retries=1 --fetch-timeout=30000
CHOSEN    := --profile $(PROFILE)$(if $(PICTURES), -p 'pictures=$(PICTURES)')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book test machines lint pages pdf student lab browse screenshots doctor cluster weights vendor clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  settings: PROFILE=smoke|tiny|paper  PICTURES=DATASET  PYTHON=python3.12  VENV=.venv'

ifeq ($(PROFILE)$(PICTURES),tiny)
HTML := _build/html
book: $(INSTALLED) weights vendor  ## build the book; with PROFILE or PICTURES: run the notebooks so, then publish
	@$(BIN)/jupyter-book build . -W --keep-going
	@echo "The book: $(CURDIR)/$(HTML)/index.html"
else
HTML := runs/$(PROFILE)/book/_build/html
book: $(INSTALLED) $(if $(filter smoke,$(PROFILE)),,weights) vendor
	@$(BIN)/zfnet run $(CHOSEN)
	@$(BIN)/zfnet book --profile $(PROFILE)
endif

test: $(INSTALLED) vendor  ## run the tests
	@$(BIN)/python -m pytest

machines: $(INSTALLED) vendor  ## run the tests (or those in TESTS) as other processors round, and print a table
	@$(BIN)/python tests/machines.py $(TESTS)

lint: $(INSTALLED)  ## check style, format and the core's types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

pages: $(INSTALLED) vendor  ## look at every page of the built book in Chromium
	@$(BIN)/python tests/pages.py $(HTML)

pdf: $(INSTALLED)  ## print the built book as a PDF; needs Chromium
	@$(BIN)/python tests/pdf.py $(HTML) $(HTML)/../zfnet.pdf

student: $(INSTALLED)  ## make notebooks without answers in student/, and one with all answers
	@$(BIN)/python notebooks/student.py student

lab: $(INSTALLED)  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab notebooks

browse: $(INSTALLED)  ## open the live browser of layers in JupyterLab
	@$(BIN)/jupyter lab notebooks/browse.ipynb

screenshots: $(INSTALLED)  ## take the pictures of the page on the live browser; needs Chromium
	@$(BIN)/python tests/screenshots.py

doctor: $(INSTALLED)  ## tell what is at hand, and what brings the rest
	@$(BIN)/zfnet doctor

cluster: $(INSTALLED)  ## install Snakemake, which drives the notebooks and trainings over many machines
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cluster]'

# The environment. Installed anew when pyproject.toml changes.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "$(PYTHON) is not Python 3.11 to 3.13; name one that is: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

weights: $(INSTALLED)  ## fetch ImageNet's AlexNet weights; the book does it by itself
	@test -e "$${ZFNET_DATA:-data}/weights/alexnet-imagenet/meta.json" || $(BIN)/zfnet fetch alexnet-imagenet

vendor:  ## put MathJax and the widget manager into the book, and axe-core beside it for the tests, by npm
	@$(call by-npm,$(VENDOR),pages will use the public copies of MathJax and the widget manager)
	@$(call by-npm,$(AXE),tests of accessibility will be skipped)

by-npm = test -e $(1) || ! command -v npm >/dev/null || $(MAKE) --no-print-directory $(1) || \
		echo "npm could not bring $(1); $(2)"

$(VENDOR):
	@rm -rf $(UNPACKED) && mkdir -p $(UNPACKED)/mathjax $(UNPACKED)/widgets
	@cd $(UNPACKED) && $(NPM) mathjax@3.2.2 @jupyter-widgets/html-manager@1.0.14 >/dev/null
	@cd $(UNPACKED) && tar xzf mathjax-*.tgz && mv package/LICENSE package/es5/tex-chtml.js package/es5/output mathjax/
	@cd $(UNPACKED) && tar xzf jupyter-widgets-*.tgz && mv package/LICENSE package/dist/embed.js package/dist/*.woff2 widgets/
	@cd $(UNPACKED) && rm -rf mathjax/output/svg* package *.tgz
	@mv $(UNPACKED) $@

$(AXE):
	@rm -rf $(@D) && mkdir -p $(@D)
	@cd $(@D) && $(NPM) axe-core@4.10.3 >/dev/null && tar xzf axe-core-*.tgz && mv package/LICENSE package/axe.min.js .
	@cd $(@D) && rm -r package *.tgz && touch axe.min.js

clean:  ## remove the built book, runs and caches (not .venv, not data)
	rm -rf _build runs .snakemake $(VENDOR) .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find zfnet_lib tests book -name __pycache__ -prune -exec rm -rf {} +
