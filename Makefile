# Two commands do everything, set-up included: `make demo` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
CXX_FILES := $(wildcard synth/engine/*.cpp synth/engine/*.h llvm_bridge/plugin/*.cpp)
C_FILES := $(wildcard verifier_model/kernel/loader/*.[ch])
SETUP := setup.cfg pyproject.toml CMakeLists.txt k2_tools/bootstrap.py $(CXX_FILES) $(wildcard llvm_bridge/plugin/*.cmake llvm_bridge/plugin/*.txt)

.PHONY: bench-model demo test lint agreement facts-traces fool-prover prover-campaign bench bench-size bench-engine bench-prover bench-wrapper bench-objects corpus corpus-report recheck fuzz model-corpus model-cases model-counts model-mutants model-rewrites model-typed-mutants oracle availability model-oracle model-emulated clean

demo: .venv/ready-demo
	@$(BIN)/k2 demo

test: .venv/ready-test
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup $(PYTEST_ARGS)

lint: .venv/ready-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/clang-format --dry-run --Werror $(CXX_FILES) $(C_FILES)

bench: bench-size bench-engine bench-prover bench-wrapper

bench-size: .venv/ready-test
	@$(BIN)/python -m benchmarks.size --date $$(date +%F) $(SIZE_ARGS)
	@$(BIN)/python -m benchmarks.size.examples --date $$(date +%F)

bench-wrapper: .venv/ready-test
	@$(BIN)/python -m benchmarks.wrapper --date $$(date +%F) --write $(WRAPPER_ARGS)

bench-engine: .venv/ready-test
	@$(BIN)/python -m benchmarks.bench_engine --date $$(date +%F)

bench-prover: .venv/ready-test
	@$(BIN)/python -m benchmarks.bench_prover --date $$(date +%F) $(PROVER_ARGS)

prover-campaign: .venv/ready-test
	@$(BIN)/python -m tests.prover.function_campaign 1000 $(CAMPAIGN_SEED)

corpus: .venv/ready-test
	@$(BIN)/python -m benchmarks.corpus.build $(CORPUS_ARGS)

bench-objects: .venv/ready-test
	@$(BIN)/python -m benchmarks.corpus.speed --date $$(date +%F) $(BENCH_ARGS)

corpus-report: .venv/ready-test
	@$(BIN)/python -m benchmarks.corpus.report --date $$(date +%F) $(CORPUS_ARGS)

model-cases: .venv/ready-test
	@$(BIN)/python -m benchmarks.model.cases $(MODEL_ARGS)

model-mutants: .venv/ready-test
	@$(BIN)/python -m benchmarks.model.mutants $(MODEL_ARGS)

# Processed instructions, program by program, and rewrites that nobody checked: the model beside the running kernel.
model-counts: .venv/ready-test
	@$(BIN)/python -m benchmarks.model.counts --date $$(date +%F) $(COUNTS_ARGS)

model-rewrites: .venv/ready-test
	@$(BIN)/python -m benchmarks.model.rewrites --date $$(date +%F) $(REWRITES_ARGS)

# CPU seconds of the check for the biggest XDP and tc programs of the corpus.
bench-model: .venv/ready-test
	@$(BIN)/python -m benchmarks.model.speed --date $$(date +%F) $(MODEL_ARGS)

model-corpus: .venv/ready-test
	@$(BIN)/python -m benchmarks.model.corpus $(MODEL_ARGS)

# Programs on kernel objects, changed a little, put to the model and the running kernel.
model-typed-mutants: .venv/ready-test
	@$(BIN)/python -m benchmarks.model.typed_mutants $(TYPED_MUTANTS_ARGS)

agreement: .venv/ready-test
	@$(BIN)/python -m benchmarks.agreement.operands --date $$(date +%F) $(OPERANDS_ARGS)
	@$(BIN)/python -m benchmarks.agreement.programs --date $$(date +%F) $(PROGRAMS_ARGS)

fool-prover: .venv/ready-test
	@$(BIN)/python -m benchmarks.agreement.fool --date $$(date +%F) $(FOOL_ARGS)

facts-traces: .venv/ready-test
	@$(BIN)/python -m benchmarks.agreement.traces --date $$(date +%F) $(TRACES_ARGS)

oracle: .venv/ready-test
	@$(BIN)/python -m benchmarks.oracle $(ORACLE_ARGS)

availability: .venv/ready-test
	@$(BIN)/python -m benchmarks.model.availability

model-oracle: .venv/ready-test
	@$(BIN)/python -m benchmarks.model.oracle --date $$(date +%F) --write $(MODEL_ORACLE_ARGS)

model-emulated: .venv/ready-test
	@$(BIN)/python -m benchmarks.model.emulated --date $$(date +%F) --write $(MODEL_EMULATED_ARGS)

recheck: .venv/ready-test
	@$(BIN)/python -m benchmarks.certificates.campaign --date $$(date +%F) $(RECHECK_ARGS)

fuzz: .venv/ready-test .venv/ready-fuzz
	@$(BIN)/python -m benchmarks.fuzz_objects $(FUZZ_ARGS)

clean:
	@rm -rf .venv build demo-out *.egg-info

# What else is ready when this is: `dev` holds `test`, and that holds `demo`.
HOLDS_demo := demo
HOLDS_test := demo test
HOLDS_fuzz := demo fuzz
HOLDS_dev := demo test dev

# The stamp says that .venv holds the extra and the engine built from the current sources.
.venv/ready-%: $(SETUP) tests/debian-packages.txt
	@command -v $(PYTHON) >/dev/null || { echo "setup: python3 is missing: install the Debian package python3-venv" >&2; exit 1; }
	@$(PYTHON) k2_tools/bootstrap.py $*
	@touch $(HOLDS_$*:%=.venv/ready-%)
