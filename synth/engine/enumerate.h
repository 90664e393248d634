// Every replacement of up to two instructions over a domain, cheapest first.
#pragma once

#include <vector>

#include "chain.h"
#include "domain.h"
#include "problem.h"

namespace k2 {

struct EnumerationSettings {
  int longest = 2;               // instructions
  uint64_t budget = 10'000'000;  // instructions run on the lanes
  uint32_t keep = 16;
  bool never_slower = true;
};

struct EnumerationResult {
  std::vector<Found> found;  // cheapest first, ties in the domain's order
  uint64_t evaluations = 0;
  bool complete = true;  // was the whole space searched within the budget?
};

EnumerationResult enumerate(Evaluator& evaluator, const Domain& domain, const EnumerationSettings& settings);

}  // namespace k2
