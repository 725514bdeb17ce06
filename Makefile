# Everything runs from .venv, which `make venv` fills from constraints.txt: what was tested is what you get.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
EXTRAS ?= train,openvino,dev
RTX := $(shell uname -sm | grep -qx 'Linux x86_64' && echo ,rtx)

.PHONY: venv demo test lint clean

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

test: lint
	$(RUN)/python -m pytest -m 'not gpu'

lint: venv
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/vermin --target=3.8- --violations --no-tips adq_edge

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
