# All targets use .venv, with the tested versions from constraints.txt.
#   make venv               what training, building and measuring need: 1.1 GB, most of it torch
#   make venv EXTRAS=       an inspection PC that does not train: 0.4 GB, without torch
#   make venv EXTRAS=train,openvino     OpenVINO too: 0.2 GB more
#   make venv TORCH=cuda    torch with CUDA, to train on an NVIDIA GPU: several GB more
#   make dev                the tools of developers too
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
EXTRAS ?= train
TORCH ?= cpu
# PyPI's torch for Linux brings the CUDA libraries.
TORCH_INDEX ?= $(if $(filter cpu,$(TORCH)),--extra-index-url https://download.pytorch.org/whl/cpu)
RTX := $(shell uname -sm | grep -qx 'Linux x86_64' && echo ,rtx)
# JetPack 5's Python, for the device half.
PYTHON38 ?= python3.8
DEVICE := .venv-device

.PHONY: venv dev demo test quick gpu test-device test-arm lint docs docs-examples notebooks wheels fuzz kill clean

# A stamp for each choice of extras. An environment of developers serves each.
comma := ,
CHOSEN := $(VENV)/.with-$(subst $(comma),-,$(EXTRAS))
venv: $(CHOSEN)
	@$(SHOW_ENVIRONMENT)
dev: $(VENV)/.dev

$(CHOSEN): WANTED := $(EXTRAS)
$(VENV)/.with-train: WANTED := train
$(VENV)/.dev: WANTED := train,openvino,serve,station,dev,docs$(RTX)

# pip prints a line for each package. It compiles no byte code: Python does it for the few modules that are imported.
PIP = $(RUN)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt

# torch first and alone, so that only torch is looked up in its index; without its test programs of 0.1 GB.
$(sort $(CHOSEN) $(VENV)/.with-train) $(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(if $(findstring train,$(WANTED)),$(PIP) --no-deps $(TORCH_INDEX) torch)
	$(if $(findstring train,$(WANTED)),rm -rf $(VENV)/lib/python*/site-packages/torch/test)
	$(PIP) --editable '.$(if $(WANTED),[$(WANTED)])'
	touch $(if $(filter %.dev,$@),$(VENV)/.with- $(VENV)/.with-train $(VENV)/.with-train-openvino) $@

define SHOW_ENVIRONMENT
du -sh $(VENV) | awk '{print "$(VENV): " $$1 " on disk"}'; \
echo 'Put adq-edge on the PATH of this terminal: . $(RUN)/activate'; \
echo 'next: make demo, or on your own images: make demo DATA=DIR'
endef

# make demo               every step on drawn images, then a table and heat maps
# make demo DATA=DIR      the same on your own images: DIR/good and a few in DIR/bad (a name may hold any characters)
export DATA
demo: $(VENV)/.with-train
	@$(RUN)/adq-edge demo $(if $(DATA),--data "$$DATA")
	@echo 'Put adq-edge on the PATH of this terminal: . $(RUN)/activate'

# A process for each folder, the longest folders first (tests/folder_seconds.txt), two at a time, of one thread each.
# A process that has run torch, ONNX Runtime, OpenVINO and hundreds of subprocesses was ended by the kernel (SIGSEGV);
# no folder alone ever was. pytest-xdist keeps a worker for many folders, and hangs when it has to replace one. Costly
# fixtures are made once for all processes, in a folder of this run. Without byte code, each of hundreds of processes
# would compile the package again. lint is one of the processes, since its tools use one core each. Exit code 5: no test
# is selected.
define run_tests
	@shared=$$(mktemp -d); trap 'rm -rf "$$shared"' EXIT; export ADQ_EDGE_TEST_SHARED="$$shared" OMP_NUM_THREADS=1; \
	unset PYTHONDONTWRITEBYTECODE; \
	{ echo lint; find tests -mindepth 2 -name 'test_*.py' | cut -d / -f 1,2 | sort -u; } | \
		awk 'NR == FNR {seconds[$$2] = $$1; next} {print ($$1 in seconds) ? seconds[$$1] : 30, $$1}' \
			tests/folder_seconds.txt - | \
		sort -rn | cut -d ' ' -f 2 | xargs -P 2 -n 1 \
		sh -c 'case $$0 in lint) output=$$(make lint 2>&1);; \
			*) output=$$($(RUN)/python -m pytest -q -m "$(1)" $$0 2>&1);; esac; code=$$?; \
		echo "$$0"; echo "$$output"; [ $$code = 0 ] || [ $$code = 5 ]'
endef

# make test               everything that needs no GPU
test: dev
	$(call run_tests,not gpu and not arm)

# make quick              without the slow files that tests/conftest.py names
quick: dev
	$(call run_tests,not gpu and not arm and not slow)

# make gpu                on a machine with an NVIDIA GPU or on a Jetson: at most 12 minutes; a report at the end
gpu:
	$(RUN)/python -m pytest -q -rs -m gpu tests/gpu

# make kill               SIGKILL at 200 random moments of every command that writes
kill: dev
	ADQ_EDGE_KILLS=200 $(RUN)/python -m pytest -q tests/kill

# make test-device        tests of the device half as on JetPack 5: Python 3.8, no torch
test-device:
	rm -rf $(DEVICE)
	$(PYTHON38) -m venv $(DEVICE)
	$(DEVICE)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		'.[serve,station]' hypothesis pytest scikit-learn setuptools
	@shared=$$(mktemp -d); trap 'rm -rf "$$shared"' EXIT; \
	ADQ_EDGE_TEST_SHARED="$$shared" PYTHONPATH=tests $(DEVICE)/bin/pytest -p factories.without_torch -m 'not gpu and not arm'

# make test-arm           the device half on emulated Arm: two systems of real aarch64 wheels; about 8 minutes, and
#                         1 minute of set-up once (tools/arm; ADQ_EDGE_ARM_CACHE names the folder of the systems)
test-arm: dev
	$(RUN)/python -m tools.arm
	@shared=$$(mktemp -d); trap 'rm -rf "$$shared"' EXIT; export ADQ_EDGE_TEST_SHARED="$$shared"; \
	printf '%s\n' current jetpack5 | xargs -P 2 -I @ $(RUN)/python -m pytest -q -m arm -k @ tests/arm

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

# make notebooks          run the notebooks of examples/ and store their outputs
notebooks: dev
	$(RUN)/python -m tools.notebooks

# make docs               write the generated pages of docs/, and build the documentation site into site/
docs: dev
	$(RUN)/python -m tools.docs
	NO_MKDOCS_2_WARNING=1 $(RUN)/python -m mkdocs build --strict --quiet

# make docs-examples      record the outputs of the examples in docs/verbs/ again; about 15 minutes
docs-examples: dev
	$(RUN)/python -m tools.docs --examples

# make fuzz               read 20,000 mutated files of every kind; about 10 minutes (tests/fuzz/test_fuzz.py)
fuzz: dev
	ADQ_EDGE_FUZZ=20000 ADQ_EDGE_FUZZ_KEEP=fuzz-faults $(RUN)/python -m pytest -q -s tests/fuzz/test_fuzz.py

# make wheels             check that the device half has wheels for JetPack 5, 6 and 7 on PyPI
wheels: venv
	$(RUN)/python docker/check_wheels.py

clean:
	rm -rf $(VENV) $(DEVICE) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
