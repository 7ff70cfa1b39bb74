# make run    the whole product on http://127.0.0.1:8000, with a WeCom stand-in
# make test   all checks and tests
# make check  linters, types, architecture, deployment checks
# make bench  speeds, as ratios in one run
# make bench-trail  the audit trail with a million events, and with ten million

PYTHON ?= python3
PORT ?= 8000
SANDBOX_PORT ?= 8001
VENV := .venv/bin
TEST := PYTHONWARNINGS=error $(VENV)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help run test check bench bench-trail lock messages

help:
	@sed -n 's/^# //p' Makefile

run:
	@$(PYTHON) deploy/bootstrap.py
	@ENVIRONMENT=sandbox SANDBOX_PORT=$(SANDBOX_PORT) exec $(VENV)/python manage.py serve --port $(PORT)

dev:
	@$(PYTHON) deploy/bootstrap.py dev

test: check
	$(VENV)/python -m tests.run

check: dev
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	SECRET_KEY=check $(VENV)/mypy .
	$(VENV)/lint-imports
	SECRET_KEY=check $(VENV)/python manage.py makemigrations --check --dry-run
	$(VENV)/python deploy/check_deploy.py
	$(VENV)/python deploy/audit_dependencies.py

bench: dev
	$(VENV)/python -m tests.bench
	$(VENV)/python -m tests.bench_delivery

bench-trail: dev
	$(VENV)/python -m tests.bench_trail

# The two lock files, from pyproject.toml; without index addresses, with hashes.
lock: dev
	$(VENV)/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe --output-file deploy/requirements.txt pyproject.toml
	$(VENV)/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe --extra dev --constraint deploy/requirements.txt --output-file deploy/requirements-dev.txt pyproject.toml

# Collect texts for translation and compile them (needs gettext); a test checks that the catalogue is complete.
messages: dev
	$(VENV)/python manage.py makemessages -l zh_Hans --no-location --no-wrap -i .venv -i var -i tests
	$(VENV)/python manage.py compilemessages -l zh_Hans -i .venv
