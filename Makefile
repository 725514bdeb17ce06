# Everything runs from .venv, which `make venv` fills from constraints.txt: what was tested is what you get.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
EXTRAS ?= train,openvino,dev
RTX := $(shell uname -sm | grep -qx 'Linux x86_64' && echo ,rtx)
# JetPack 5's Python, for the device half.
PYTHON38 ?= python3.8
DEVICE := .venv-device

.PHONY: venv demo test quick test-device lint wheels clean

venv: $(VENV)/.complete

$(VENV)/.complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(TORCH_INDEX) \
		--editable '.[$(EXTRAS)$(RTX)]'
	touch $@

# make demo               the whole way on images that adq-edge draws itself
# make demo DATA=DIR      the same on your own images (MVTec AD layout)
demo: venv
	$(RUN)/adq-edge demo $(if $(DATA),--data '$(DATA)')

# Two workers of one thread each: on two cores more threads only wait for each other. A file stays on one worker, and a
# worker that crashes is replaced.
PYTEST := OMP_NUM_THREADS=1 $(RUN)/python -m pytest -q -n 2 --dist loadfile

# make test               everything that needs no GPU
test: lint
	$(PYTEST) -m 'not gpu'

# make quick              without the slow files that tests/conftest.py names
quick: lint
	$(PYTEST) -m 'not gpu and not slow'

# make test-device        the device half, installed as a JetPack 5 board has it: no torch, Python 3.8
test-device:
	rm -rf $(DEVICE)
	$(PYTHON38) -m venv $(DEVICE)
	$(DEVICE)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		. hypothesis pytest scikit-learn setuptools
	PYTHONPATH=tests $(DEVICE)/bin/pytest -p factories.without_torch -m 'not gpu'

lint: venv
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/vermin --target=3.8- --violations --no-tips adq_edge
	$(call lint_with,hadolint,docker/Dockerfile.*)
	$(call lint_with,shellcheck,jetson_setup.sh .ci/run)

# These two have no wheels for Linux on Arm: there, and only there, their absence is no failure.
define lint_with
	@if [ -x $(RUN)/$(1) ] || [ "$$(uname -sm)" != 'Linux aarch64' ]; then \
		echo '$(RUN)/$(1) $(2)'; $(RUN)/$(1) $(2); \
	else echo 'NOT LINTED, no $(1) here: $(2)' >&2; fi
endef

# make wheels             asks PyPI whether the device half has wheels for JetPack 5, 6 and 7
wheels: venv
	$(RUN)/python docker/check_wheels.py

clean:
	rm -rf $(VENV) $(DEVICE) .pytest_cache .mypy_cache .ruff_cache .hypothesis
