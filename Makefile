# All targets use .venv, with the tested versions from constraints.txt. Each target installs only what it uses:
# `make demo` the training half, `make venv` also OpenVINO, `make dev` and `make test` the tools of developers too.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
EXTRAS ?= train,openvino
RTX := $(shell uname -sm | grep -qx 'Linux x86_64' && echo ,rtx)
# JetPack 5's Python, for the device half.
PYTHON38 ?= python3.8
DEVICE := .venv-device

.PHONY: venv dev demo test quick test-device lint docs wheels fuzz kill clean

venv: $(VENV)/.complete
dev: $(VENV)/.dev

$(VENV)/.demo: WANTED := train
$(VENV)/.complete: WANTED := $(EXTRAS)
$(VENV)/.dev: WANTED := train,openvino,dev,docs$(RTX)

# pip shows each package and its progress. An environment of a larger target serves a smaller one.
$(VENV)/.demo $(VENV)/.complete $(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --disable-pip-version-check --constraint constraints.txt $(TORCH_INDEX) \
		--editable '.[$(WANTED)]'
	touch $(VENV)/.demo $(if $(filter-out %.demo,$@),$(VENV)/.complete) $@

# make demo               the whole workflow on synthetic images
# make demo DATA=DIR      the same on your own images (layouts: docs/your-images.md)
demo: $(VENV)/.demo
	$(RUN)/adq-edge demo $(if $(DATA),--data '$(DATA)')

# A process for each folder, the longest folders first (tests/folder_seconds.txt), two at a time, of one thread each.
# A process that has run torch, ONNX Runtime, OpenVINO and hundreds of subprocesses was ended by the kernel (SIGSEGV);
# no folder alone ever was. pytest-xdist keeps a worker for many folders, and hangs when it has to replace one. Costly
# fixtures are made once for all processes, in a folder of this run. Without byte code, each of hundreds of processes
# would compile the package again. Exit code 5: no test is selected.
define run_tests
	@shared=$$(mktemp -d); trap 'rm -rf "$$shared"' EXIT; export ADQ_EDGE_TEST_SHARED="$$shared" OMP_NUM_THREADS=1; \
	unset PYTHONDONTWRITEBYTECODE; \
	find tests -mindepth 2 -name 'test_*.py' | cut -d / -f 1,2 | sort -u | \
		awk 'NR == FNR {seconds[$$2] = $$1; next} {print ($$1 in seconds) ? seconds[$$1] : 30, $$1}' \
			tests/folder_seconds.txt - | \
		sort -rn | cut -d ' ' -f 2 | xargs -P 2 -n 1 \
		sh -c 'output=$$($(RUN)/python -m pytest -q -m "$(1)" $$0 2>&1); code=$$?; \
		echo "$$0"; echo "$$output"; [ $$code = 0 ] || [ $$code = 5 ]'
endef

# make test               everything that needs no GPU
test: lint
	$(call run_tests,not gpu)

# make quick              without the slow files that tests/conftest.py names
quick: lint
	$(call run_tests,not gpu and not slow)

# make kill               SIGKILL at 200 random moments of every command that writes
kill: dev
	ADQ_EDGE_KILLS=200 $(RUN)/python -m pytest -q tests/kill

# make test-device        tests of the device half as on JetPack 5: Python 3.8, no torch
test-device:
	rm -rf $(DEVICE)
	$(PYTHON38) -m venv $(DEVICE)
	$(DEVICE)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		. hypothesis pytest scikit-learn setuptools
	@shared=$$(mktemp -d); trap 'rm -rf "$$shared"' EXIT; \
	ADQ_EDGE_TEST_SHARED="$$shared" PYTHONPATH=tests $(DEVICE)/bin/pytest -p factories.without_torch -m 'not gpu'

lint: dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/vermin --target=3.8- --violations --no-tips adq_edge
	$(call lint_with,hadolint,docker/Dockerfile.*)
	$(call lint_with,shellcheck,jetson_setup.sh .ci/run)

# hadolint and shellcheck have no wheels for Linux on Arm: only there may they be missing.
define lint_with
	@if [ -x $(RUN)/$(1) ] || [ "$$(uname -sm)" != 'Linux aarch64' ]; then \
		echo '$(RUN)/$(1) $(2)'; $(RUN)/$(1) $(2); \
	else echo 'NOT LINTED, no $(1) here: $(2)' >&2; fi
endef

# make docs               build the documentation site into site/
docs: dev
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict --quiet

# make fuzz               read 20,000 mutated files of every kind; about 10 minutes (tests/fuzz/test_fuzz.py)
fuzz: venv
	ADQ_EDGE_FUZZ=20000 ADQ_EDGE_FUZZ_KEEP=fuzz-faults $(RUN)/python -m pytest -q -s tests/fuzz/test_fuzz.py

# make wheels             check that the device half has wheels for JetPack 5, 6 and 7 on PyPI
wheels: venv
	$(RUN)/python docker/check_wheels.py

clean:
	rm -rf $(VENV) $(DEVICE) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
