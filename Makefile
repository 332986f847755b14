# `make` alone lists the targets. `book` and `test` set themselves up: nothing has to be
# installed first but Python 3.11 or newer (and Chromium, for the tests in a browser).

NEW_ENOUGH = import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
            $$name -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$name && break; done)
endif
UV = uv==0.13.9
SYNC = .venv/bin/uv sync --quiet --locked --extra book
PORT ?= 8000
CODE = sc_utils _ext tests bench

.DEFAULT_GOAL := help
.PHONY: help book test check format bench serve clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

book: .venv/ready ## execute the chapters and build the site into _build/html
	@.venv/bin/python -m _ext.build

test: book ## run every test: the engine, the chapters, the built site in a browser
	@.venv/bin/python -m pytest -n 2 --dist loadfile

check: .venv/ready ## lint, format, types and doctests, in seconds
	@.venv/bin/ruff check $(CODE)
	@.venv/bin/ruff format --check $(CODE)
	@.venv/bin/python -m _ext.cells check
	@.venv/bin/mypy
	@.venv/bin/python -m pytest --quiet sc_utils README.md

format: .venv/ready ## repair what `check` finds and can be repaired
	@.venv/bin/ruff check --fix $(CODE)
	@.venv/bin/ruff format $(CODE)
	@.venv/bin/python -m _ext.cells format

bench: .venv/ready-bench ## time the engine against its peers (installs them)
	@.venv/bin/python -m bench

serve: book ## serve the site on http://127.0.0.1:8000 (PORT=... for another port)
	@.venv/bin/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

clean: ## delete what was built (not .venv)
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The environment is made once, and again when the lock file changes.

.venv/ready: pyproject.toml uv.lock
	@test -n "$(PYTHON)" || $(call stop,NO_PYTHON)
	@$(PYTHON) -c '$(NEW_ENOUGH)' || $(call stop,OLD_PYTHON)
	@echo "Setting up .venv (about a minute the first time) ..."
	@test -x .venv/bin/pip || $(PYTHON) -m venv --clear .venv || $(call stop,NO_VENV)
	@test -x .venv/bin/uv || .venv/bin/pip install --quiet $(UV) || $(call stop,NO_UV)
	@$(SYNC) || $(call stop,NO_PACKAGES)
	@touch $@

.venv/ready-bench: .venv/ready
	@$(SYNC) --group bench || $(call stop,NO_PACKAGES)
	@touch $@

stop = { printf '\n%s\n' "$$$(1)" >&2; exit 1; }

define NO_PYTHON
Python 3.11 or newer is needed, and none was found. Install one (from python.org; on Debian and
Ubuntu: apt install python3-venv), or name yours: make PYTHON=/path/to/python3.12 book
endef

define OLD_PYTHON
$(PYTHON) does not run, or is too old: Python 3.11 or newer is needed.
endef

define NO_VENV
$(PYTHON) could not make a virtual environment: its venv module is missing. On Debian and Ubuntu:
apt install python3-venv. Then run make again.
endef

define NO_UV
Could not install $(UV) from PyPI. Is there a network, or a proxy to be named in HTTPS_PROXY?
What was done so far is kept: run make again when there is.
endef

define NO_PACKAGES
Could not install the packages that uv.lock names; the reason stands above. Without a network: run
make again when there is one. After an edit of pyproject.toml: run .venv/bin/uv lock first.
endef

export NO_PYTHON OLD_PYTHON NO_VENV NO_UV NO_PACKAGES
