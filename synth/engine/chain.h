// Metropolis-Hastings over the instructions of a window (K2, SIGCOMM'21 section 3; STOKE, ASPLOS'13).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "domain.h"
#include "problem.h"

namespace k2 {

// Weights are in units of 1/256 of a halving of the acceptance probability.
struct ChainSettings {
  uint64_t seed = 1;
  uint64_t steps = 10000;        // proposals
  uint64_t restart = 0;          // after so many, back to the cheapest program that passes the tests; 0: never
  uint32_t error_weight = 4096;  // per bit of error, averaged over the tests
  uint32_t slot_weight = 256;    // per slot
  uint32_t nanosecond_weight = 32;
  uint32_t keep = 8;         // how many correct programs to return
  bool never_slower = true;  // only programs whose summed cost is not above the original's
  bool early_stop = true;    // stop an evaluation once it cannot be accepted (no influence on the result)
  // Relative frequencies of the moves.
  uint32_t operand_moves = 6;
  uint32_t instruction_moves = 5;
  uint32_t nop_moves = 3;
  uint32_t pair_moves = 2;
  uint32_t access_moves = 3;
  uint32_t swap_moves = 2;
  uint32_t compound_moves = 3;
};

struct Found {
  std::vector<Insn> program;  // without no-ops
  uint64_t slots = 0;
  uint64_t picoseconds = 0;
  uint64_t discovery = 0;  // the how-many-th of its search it was
};

// Sorts by slots, then latency, then discovery, and keeps the first `count`.
void keep_cheapest(std::vector<Found>& found, size_t count);

struct ChainResult {
  std::vector<Found> found;  // cheapest first: fewest slots, then the lowest latency, then the first found
  uint64_t evaluations = 0;
  uint64_t accepted = 0;
};

ChainResult run_chain(Evaluator& evaluator, const Domain& domain, const ChainSettings& settings);

// The chains one by one in `workers` threads: each on tests of its own copy, so that the results, which come in the
// order of the settings, do not depend on the number of workers.
std::vector<ChainResult> run_chains(const Problem& problem, const Lanes& lanes, const Domain& domain,
                                    const std::vector<ChainSettings>& settings, int workers);

// -log2 of a uniform draw from (0, 1], in 1/256: how much a proposal may cost more than the current program.
uint64_t draw_allowance(Random& random);

// For the benchmark: the first `count` proposals of a chain that may run, as they were proposed.
std::vector<std::vector<Insn>> record_proposals(Evaluator& evaluator, const Domain& domain, uint64_t seed,
                                                size_t count);

}  // namespace k2
