// Every replacement of up to three instructions over a domain, cheapest first.
#pragma once

#include <vector>

#include "chain.h"
#include "domain.h"
#include "problem.h"

namespace k2 {

struct EnumerationSettings {
  int longest = 2;               // instructions, up to 3
  uint64_t budget = 10'000'000;  // instructions run on the lanes of one batch
  uint32_t keep = 16;
  bool never_slower = true;
};

struct EnumerationResult {
  std::vector<Found> found;  // cheapest first, ties in the domain's order
  uint64_t evaluations = 0;
  uint64_t states = 0;   // that the tests tell apart
  bool complete = true;  // was the whole space searched within the budget?
};

// Programs that the tests cannot tell apart after some of their instructions are gone on with once, from the cheapest
// of them: what follows does the same to all.  A test that tells two of them apart makes two of the one.
EnumerationResult enumerate(Evaluator& evaluator, const Domain& domain, const EnumerationSettings& settings);

}  // namespace k2
