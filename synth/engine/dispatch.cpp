// Which of the compiled variants of the lanes this machine runs: they give the same numbers at different speeds.
#include "batch.h"

namespace k2 {

namespace generic {
extern const Lanes lanes;
}
#ifdef K2_HAVE_X86_VARIANTS
namespace avx2 {
extern const Lanes lanes;
}
namespace avx512 {
extern const Lanes lanes;
}
#endif

std::vector<const Lanes*> available_lanes() {
  std::vector<const Lanes*> found{&generic::lanes};
#ifdef K2_HAVE_X86_VARIANTS
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt")) {
    found.push_back(&avx2::lanes);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) found.push_back(&avx512::lanes);
  }
#endif
  return found;
}

const Lanes& best_lanes() {
  static const Lanes* const best = available_lanes().back();
  return *best;
}

}  // namespace k2
