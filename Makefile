# make demo   the main job, on an embedded Flyte: tasks call it with credentials that came through the agent, and then
#             for the people who launched them
# make test   everything: lint, types, tests
# make peers  real identity providers, a browser and a proxy, for the tests that need them (tests/identity/)
#
# All make their own virtual environment in .venv, from requirements/lock.txt; the peers go to .peers.
# With AUTHAGENT_REQUIRE_PEERS=1 `make test` installs the peers first, and a missing one is a failure.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraints requirements/lock.txt --build-constraints requirements/lock.txt
TESTS  ?= tests
PEERS  := .peers
LOCK_IMAGE := $(BIN)/uv pip compile --quiet --python-version 3.11 --python-platform linux --generate-hashes --no-emit-index-url \
	--constraints requirements/lock.txt --custom-compile-command 'make lock'

.PHONY: demo test peers without-peers lint types unit bench lock clean

demo: $(VENV)/demo.stamp
	$(BIN)/python demo/story.py
	$(BIN)/python demo/delegation.py

test: $(if $(filter 1,$(AUTHAGENT_REQUIRE_PEERS)),peers,without-peers) lint types unit

peers: $(VENV)/peers.stamp
	sh requirements/peers/install.sh $(BIN)/python $(PEERS)

without-peers:
	@test -d $(PEERS) || echo "NO PEERS HERE: tests against real identity providers will be skipped; 'make peers' installs them"

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test.stamp
	$(BIN)/mypy

unit: $(VENV)/test.stamp
	$(BIN)/pytest $(TESTS)

bench: $(VENV)/test.stamp
	$(BIN)/python benchmarks/run.py

# pip first: older ones write console scripts that start half as fast (docs/decisions/0006-start-up.md).
$(VENV)/bin/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip==26.3
	$(BIN)/python -m pip install --quiet uv==0.13.9

# setuptools' default editable install hides our types from mypy; the compatible one does not.
$(VENV)/demo.stamp: $(VENV)/bin/uv setup.cfg pyproject.toml requirements/lock.txt
	$(UV) --config-settings editable_mode=compat --editable '.[all]'
	touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp requirements/test.in
	$(UV) --requirements requirements/test.in
	touch $@

$(VENV)/peers.stamp: $(VENV)/test.stamp requirements/peers/python.in
	$(UV) --requirements requirements/peers/python.in
	touch $@

lock: $(VENV)/bin/uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
		--all-extras --custom-compile-command 'make lock' requirements/test.in requirements/peers/python.in setup.cfg \
		--output-file requirements/lock.txt
	$(LOCK_IMAGE) --extra agent --extra hub setup.cfg --output-file requirements/image.txt
	$(LOCK_IMAGE) requirements/image-tools.in --output-file requirements/image-tools.txt

clean:
	rm -rf $(VENV) $(PEERS) build dist
