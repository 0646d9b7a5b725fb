# Every target does its own set-up: packages through apt, the model through pip, then CMake builds by a preset of
# CMakePresets.json. make test BUILD=elsewhere builds into elsewhere-test; CMAKE_FLAGS=... goes to CMake, which
# remembers it.
BUILD ?= build
# MODEL is a file, or the short name of one that scripts/setup/models.txt has.
MODEL ?= smollm2
FILE_smollm2 = models/SmolLM2-135M-Instruct.Q4_1.gguf
FILE_qwen = models/Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf
override MODEL := $(or $(FILE_$(MODEL)),$(MODEL))
CMAKE_FLAGS ?=
SECONDS ?= 4
JOBS ?= $(shell nproc)
.DEFAULT_GOAL = help
MAKEFLAGS += --no-print-directory

# The folder of a preset, a build by it, and its tests: $(call folder,PRESET), $(call build,PRESET[,TARGET..]), ...
folder = $(BUILD)$(if $(filter-out default,$(1)),-$(1))
define build
@cmake --preset $(1) -B $(call folder,$(1)) $(CMAKE_FLAGS) >/dev/null
@cmake --build $(call folder,$(1)) -j $(JOBS) $(if $(2),--target $(2))
endef
run-tests = @ctest --test-dir $(call folder,$(1)) -j $(JOBS) --output-on-failure -LE '^slow$$' $(AGAIN_$(1))

# All of them: no target of this file is a file, but for the models.
.PHONY: $(shell sed -n 's/^\([a-z][a-z -]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:
	@echo "Use"
	@echo "  make demo          fetch a small model, fit a policy, measure it, write a report (6 minutes);"
	@echo "                     MODEL=qwen on a model of 0.5B (491 MB, 20 minutes)"
	@echo "  make demo-serve    a server: a second person's approval, a steered answer, its receipt replayed,"
	@echo "                     the live page (3 minutes); STAY=1 leaves it running"
	@echo "  make build         $(BUILD)/trimtab, $(BUILD)/libtrimtab.a and $(BUILD)/libtrimtab.so"
	@echo "  make install       the program and the library into PREFIX=$(PREFIX) (DESTDIR); uninstall"
	@echo "  make deb           Debian packages of both, in $(BUILD)-package; make tarball: the source"
	@echo "  make bench         time prefill, decode and the cost of steering on this machine"
	@echo "  make bench-cpu     prefill, decoding and memory beside llama.cpp, built for it (25 minutes)"
	@echo "  make models        the demo's model, Qwen2.5-Coder-0.5B and Gemma 3 270M into models/ (850 MB);"
	@echo "                     FROM=DIR takes them from a folder"
	@echo
	@echo "Develop"
	@echo "  make test          build and run every test, in $(BUILD)-test; TEST=test_policy for one suite"
	@echo "  make sanitize      the tests under the address and undefined-behaviour sanitizers"
	@echo "  make clang         the tests built by clang"
	@echo "  make ptx           the CUDA kernels as nvcc's PTX, interpreted: all suites of ops, tiny models"
	@echo "  make tsan          what has threads, under the thread sanitizer"
	@echo "  make fuzz          each parser under libFuzzer, SECONDS=$(SECONDS); TARGET=gguf SECONDS=1200 for one"
	@echo "  make coverage      branch coverage of what reads files; less than 90% in total is an error"
	@echo "  make conformance   real vocabularies and templates against their own libraries (4 minutes)"
	@echo "  make real-models   the models of \`make models\` against PyTorch's ids, tokens and logits (a minute)"
	@echo "  make serve-clients openai-python and lm-eval against the server (a minute and their installation)"
	@echo "  make docs          the documentation as a site, in $(BUILD)-docs/html"
	@echo "  make picture       the README's picture of a terminal, from a run of the program"
	@echo "  make page-test     the pages of eval and serve in Chromium: phone to desk, accessibility (2 minutes)"
	@echo "  make python-test   the Python package: wheel, examples, lm-eval, Inspect (5 minutes and installation)"
	@echo "  make audit         the audit log: 200 kills, a million entries, Go's tlog, 500 replays (5 minutes)"
	@echo "  make cluster-check a batch on processes and on Open MPI's ranks, killed and gone on with (3 minutes)"
	@echo "  make install-test  the library installed, moved, found, fetched and removed again"
	@echo "  make vector-test   control vectors beside llama.cpp, built for it (25 minutes; 2 if that is there)"
	@echo "  make deb-test      the packages: lintian without errors, unpacked they run and link"
	@echo "  make debian-test   the same in fresh roots of Debian 12 and 13, and installed by apt; TARGETS=demo"
	@echo "  make deploy-check  deploy/: Kubernetes' files, Slurm's scripts, HAProxy before servers in a rolling"
	@echo "                     restart, the container built and run as its user (10 minutes); PARTS=rolling"
	@echo "  make arm           the CPU's kernels built for 64-bit ARM and run under qemu: the same bits as here"
	@echo "  make format        clang-format over the tree (check-format only looks)"
	@echo "  make lint          columns, lengths, names of files in comments, who includes whom"
	@echo "  make ci            all that CI runs (20 minutes on 2 cores); ci-full: what is slow too (80 minutes)"
	@echo
	@echo "GPU"
	@echo "  make gpu-check     prove and time the CUDA kernels on a GPU (6 minutes); RESULTS=FOLDER; RANKS=N"
	@echo "  make bundle        bundle/: all of gpu-check, for a machine without the build's packages"

# ---- Use ----

build:
	@scripts/setup/install_packages.sh build
	$(call build,default)

$(FILE_smollm2):
	@scripts/setup/fetch_models.sh smollm2
$(FILE_qwen):
	@scripts/setup/fetch_models.sh qwen

# The loader's list of libraries is the system's: only an installation into it by root renews it.
PREFIX ?= /usr/local
export DESTDIR
install: build
	@cmake --install $(BUILD) --prefix "$(PREFIX)"
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" -ne 0 ] || ldconfig

uninstall: build
	@scripts/setup/uninstall.sh $(BUILD) "$(PREFIX)"
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" -ne 0 ] || ldconfig

# trimtab, libtrimtab0 and libtrimtab-dev in build-package/, and the tree of the last commit.
deb:
	@scripts/setup/install_packages.sh deb
	$(call build,package)
	@cd $(call folder,package) && rm -f *.deb && cpack >/dev/null && ls *.deb

NAME = trimtab-$(shell sed -n '/^project/s/.* VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
tarball:
	@git archive --format=tar.gz --prefix=$(NAME)/ -o $(NAME).tar.gz HEAD
	@ls $(NAME).tar.gz

model: $(FILE_smollm2)

# FROM=DIR takes files of the right SHA-256 from a folder instead.
FROM ?=
models:
	@scripts/setup/fetch_models.sh $(if $(FROM),--from "$(FROM)")

demo: build $(MODEL)
	@scripts/setup/install_packages.sh demo
	@scripts/measure/demo.sh $(BUILD)/trimtab $(MODEL)

# The README's picture, from a policy that is fitted where build-picture has none.
PICTURE = $(BUILD)-picture/refuse.safetensors
picture: build $(FILE_smollm2)
	@scripts/setup/install_packages.sh demo
	@mkdir -p $(dir $(PICTURE))
	@[ -f $(PICTURE) ] || $(BUILD)/trimtab fit $(FILE_smollm2) --data data/pairs.jsonl --data data/prompts.jsonl \
		-o $(PICTURE)
	@scripts/site/terminal_picture.py $(BUILD)/trimtab $(FILE_smollm2) $(PICTURE) docs

# POLICY=FILE: of that policy instead of a small one; STAY=1: the server stays until Enter is pressed.
POLICY ?=
STAY ?=
SERVE_VENV = .cache/serve-clients/bin
demo-serve: build $(MODEL)
	@scripts/setup/install_packages.sh demoserve
	@test -x $(SERVE_VENV)/python || python3 -m venv .cache/serve-clients
	@$(SERVE_VENV)/pip install -q --disable-pip-version-check \
		$$(grep '^openai==' scripts/measure/serve-requirements.txt)
	@scripts/measure/demo_serve.sh $(if $(STAY),--stay) $(BUILD)/trimtab $(MODEL) $(SERVE_VENV)/python $(POLICY)

bench: build $(MODEL)
	@$(BUILD)/trimtab bench $(MODEL) -r 9 --limits
	@$(BUILD)/trimtab-bench --model $(MODEL)

bench-cpu: build $(MODEL)
	@scripts/setup/build_llama_cpp.sh
	@bench/peers/batched.py $(BUILD)/trimtab-batched build-llama.cpp/llama-batched-bench $(MODEL)

# ---- Develop ----

vector-test: build
	@scripts/setup/build_llama_cpp.sh
	@scripts/measure/check_control_vectors.py $(BUILD)/trimtab "$$(scripts/setup/fetch_llama_cpp.sh)" \
		build-llama.cpp/build

# Such a hang (tests/CMakeLists.txt, TEST_JOBS) can still happen: what has not ended is run again, and no other failure.
AGAIN_sanitize = --timeout 180 --repeat after-timeout:3
AGAIN_sanitize-full = --timeout 900 --repeat after-timeout:3

# TEST: one of them, by its name; a suite in C is the only thing that is built.
test sanitize clang tsan: model
	@scripts/setup/install_packages.sh test
	$(call build,$@,$(if $(TEST),$(if $(wildcard tests/$(TEST).c tests/*/$(TEST).c*),$(TEST),trimtab-cli)))
	$(call run-tests,$@) $(if $(TEST),-R '^$(TEST)$$' --no-tests=error)

# The emulator too, AVX-512's memory accesses, and the tests that `sanitize` leaves out.
sanitize-full: model
	@scripts/setup/install_packages.sh test
	@cmake --preset sanitize -B $(BUILD)-sanitize-full -DTT_EMULATOR=ON -DTT_TEST_ALL=ON $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-sanitize-full -j $(JOBS)
	$(call run-tests,sanitize-full)

# All suites of the emulator on nvcc's PTX, with a table of what ran; and the machine code for sm_80 too.
ptx: model
	@scripts/setup/install_packages.sh test
	@cmake --preset test -B $(BUILD)-ptx -DTT_CUDA=ON -DTT_CUDA_SM80=ON -DTT_PTX_ALL=ON $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-ptx -j $(JOBS)
	$(call run-tests,ptx) -R '^(ptx|sass)' --verbose

fuzz:
	@scripts/setup/install_packages.sh test
	$(call build,sanitize,fuzz-targets)
	@scripts/measure/fuzz.sh $(call folder,sanitize) $(SECONDS) $(TARGET)

COVERAGE_TESTS = fuzz-targets $(addprefix test_,activation_file api_body batch_input chat chat_span config faults file \
	gguf jinja policy safetensors tokenizer tokenizer_families tokenizer_files weights)
coverage:
	@scripts/setup/install_packages.sh coverage
	$(call build,$@,$(COVERAGE_TESTS))
	@scripts/measure/coverage.sh $(call folder,$@)

VENV = .cache/conformance/bin
conformance: model
	@scripts/setup/install_packages.sh test
	@scripts/setup/install_packages.sh fetch
	$(call build,test,trimtab-cli conformance)
	@test -x $(VENV)/python || python3 -m venv .cache/conformance
	@$(VENV)/pip install -q --disable-pip-version-check -r scripts/measure/conformance-requirements.txt
	@$(VENV)/pip install -q --disable-pip-version-check --no-deps mistral-common==1.13.1
	@$(VENV)/python scripts/measure/conformance.py "$$(scripts/setup/fetch_llama_cpp.sh)" $(call folder,test)

real-models: models
	@scripts/setup/install_packages.sh test
	$(call build,test,test_models)
	@ctest --test-dir $(call folder,test) -L '^slow$$' --output-on-failure

# The documentation as a site, in build-docs/html.
DOCS_VENV = .cache/docs/bin
docs: build
	@scripts/setup/install_packages.sh fetch
	@test -x $(DOCS_VENV)/python || python3 -m venv .cache/docs
	@$(DOCS_VENV)/pip install -q --disable-pip-version-check -r scripts/site/requirements.txt
	@rm -rf $(BUILD)-docs && mkdir $(BUILD)-docs && cp scripts/site/mkdocs.yml $(BUILD)-docs
	@scripts/site/make_site.py $(BUILD)/trimtab $(BUILD)-docs/pages
	@cd $(BUILD)-docs && { NO_MKDOCS_2_WARNING=1 "$(CURDIR)/$(DOCS_VENV)/mkdocs" build >log 2>&1 || \
		{ cat log; exit 1; }; }
	@echo "$(BUILD)-docs/html/index.html"

serve-clients:
	@scripts/setup/install_packages.sh test
	@scripts/setup/install_packages.sh fetch
	$(call build,test,trimtab-cli)
	@test -x $(SERVE_VENV)/python || python3 -m venv .cache/serve-clients
	@$(SERVE_VENV)/pip install -q --disable-pip-version-check -r scripts/measure/serve-requirements.txt
	@$(SERVE_VENV)/python scripts/measure/serve_clients.py $(call folder,test)/trimtab

PAGE_VENV = .cache/pages/bin
page-test:
	@scripts/setup/install_packages.sh page
	$(call build,test,trimtab-cli)
	@test -x $(PAGE_VENV)/python || python3 -m venv .cache/pages
	@$(PAGE_VENV)/pip install -q --disable-pip-version-check -r scripts/measure/page-requirements.txt
	@$(PAGE_VENV)/python scripts/measure/check_pages.py --trimtab $(call folder,test)/trimtab

# DATA=FOLDER: ARC-easy too, of arc_easy_1k.jsonl there.
DATA ?=
python-test: model
	@scripts/setup/install_packages.sh test
	@scripts/setup/install_packages.sh python
	$(call build,test,trimtab-cli)
	@scripts/measure/python_test.sh $(call folder,test)/trimtab $(DATA)

audit:
	@scripts/setup/install_packages.sh audit
	$(call build,test,trimtab-cli audit_load trimtab-body)
	@scripts/measure/measure_audit.py $(call folder,test)

# KILLS=200: only kills, and so many, of a batch's processes and of a model's ranks.
KILLS ?=
cluster-check:
	@scripts/setup/install_packages.sh cluster
	$(call build,test,trimtab-cli trimtab-mpi)
	@scripts/measure/cluster_check.py $(call folder,test)/trimtab tests/golden $(call folder,test)/trimtab-mpi \
		$(if $(KILLS),--kills $(KILLS))
	@scripts/measure/rank_kills.py $(call folder,test)/trimtab tests/golden --kills $(or $(KILLS),100)

cluster-kills:
	@$(MAKE) --no-print-directory cluster-check KILLS=200

# kernels/cuda/nccl_abi.h beside NCCL's own header and library.
nccl-abi:
	@scripts/setup/install_packages.sh test
	@scripts/measure/nccl_abi.sh

install-test:
	@scripts/setup/install_packages.sh test
	$(call build,test,trimtab trimtab-shared trimtab-cli trimtab-documents)
	@scripts/setup/install_test.sh $(call folder,test)

# The CPU's kernels for 64-bit ARM, run under qemu and held to this machine's bits.
arm:
	@scripts/setup/install_packages.sh arm
	@scripts/measure/arm.sh $(call folder,$@) $(JOBS)

deb-test: deb
	@scripts/setup/install_packages.sh debtest
	@scripts/setup/deb_test.sh $(call folder,package)

# Built and installed in fresh roots; and then TARGETS of this file made there, demo or test.
SUITES ?= bookworm trixie
TARGETS ?=
debian-test:
	@scripts/setup/install_packages.sh debian
	@for suite in $(SUITES); do JOBS=$(JOBS) scripts/setup/debian_test.sh "$$suite" $(TARGETS) || exit 1; done

# Without a registry, a cluster or a GPU. PARTS: some of these alone.
PARTS ?= scripts manifests rolling slurm container
DEPLOY_VENV = .cache/deploy/bin
deploy-check:
	@scripts/setup/install_packages.sh deploy
	$(call build,test,trimtab-cli trimtab-mpi)
	@test -x $(DEPLOY_VENV)/python || python3 -m venv .cache/deploy
	@$(DEPLOY_VENV)/pip install -q --disable-pip-version-check -r scripts/measure/deploy-requirements.txt
	@JOBS=$(JOBS) CMAKE_FLAGS="$(CMAKE_FLAGS)" scripts/measure/deploy_check.sh $(call folder,test) $(DEPLOY_VENV) \
		$(PARTS)

SOURCES = git ls-files -co --exclude-standard -- '*.c' '*.h' '*.inc' '*.cu' '*.cuh'
format:
	@$(SOURCES) | xargs clang-format -i

check-format:
	@scripts/setup/install_packages.sh test
	@$(SOURCES) | xargs clang-format --dry-run -Werror

lint:
	@scripts/setup/install_packages.sh test
	@scripts/lint/lint.py
	@scripts/lint/layers.py

# Each part is a target of this file; a table at the end says what each took.
# sanitize is built by clang, with its warnings as errors; clang's own build of the tests has the optimised code too.
CI_PARTS = check-format lint test install-test sanitize fuzz
CI_SLOW_PARTS = \
	clang \
	tsan \
	coverage \
	conformance \
	real-models \
	serve-clients \
	page-test \
	demo-serve \
	docs \
	python-test \
	audit \
	cluster-check \
	cluster-kills \
	nccl-abi \
	deb-test \
	debian-test \
	deploy-check \
	arm \
	sanitize-full \
	ptx \
	fuzz-long
ci:
	@scripts/measure/parts.py $(CI_PARTS)

ci-full:
	@scripts/measure/parts.py $(CI_PARTS) $(CI_SLOW_PARTS)

fuzz-long:
	@$(MAKE) --no-print-directory fuzz SECONDS=120

clean:
	rm -rf $(BUILD) $(BUILD)-*

# ---- GPU ----

bundle:
	@scripts/setup/install_packages.sh test
	@cmake --preset test -B $(BUILD)-bundle -DTT_CUDA=ON -DTT_CUDA_SM80=ON $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-bundle -j $(JOBS)
	@scripts/gpu/bundle.sh $(BUILD)-bundle bundle

# Where the build's packages are missing, a bundle that was brought here is enough.
PACKAGES = jansson libpcre2-8 libutf8proc libcrypto criterion
BUNDLED = [ -x bundle/gpu-check ] && ! pkg-config --exists $(PACKAGES) 2>/dev/null
RESULTS ?= bench/results
gpu-check:
	@$(BUNDLED) || $(MAKE) bundle
	@bundle/gpu-check --results "$(RESULTS)" $(if $(RANKS),--ranks $(RANKS))
