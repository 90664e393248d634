// One search problem: a window of instructions, what is known before it, what may be seen after it, and test inputs.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "batch.h"
#include "types.h"

namespace k2 {

// What may be seen behind an exit.
struct Wanted {
  std::array<uint64_t, register_count> registers{};
  std::array<uint8_t, stack_bytes> stack{};  // 0xFF: a byte that may be read later
};

// A program with branches has exits besides its end: exit 0 is the end, and its demand the problem's own.  The `off`
// of a branch is an index into the program, no-ops included, or -e for exit e.
struct Problem {
  Frame frame;
  StaticState entry;
  std::vector<Insn> original;
  std::array<uint64_t, register_count> register_demand{};
  std::array<uint8_t, stack_bytes> stack_demand{};  // 0xFF: a byte that may be read later
  std::array<uint32_t, shape_count> picoseconds{};
  bool big_endian = false;
  std::vector<Wanted> exits;  // behind exits 1, 2, ...
  bool has_branches = false;
  std::vector<Batch> batches;
};

inline constexpr uint64_t unsafe = ~uint64_t{0};

// Runs candidates of one problem on all test inputs.  Not shared between threads.
class Evaluator {
 public:
  explicit Evaluator(Problem problem, const Lanes& lanes = best_lanes());

  // Runs the original and keeps its results as what is expected.  Returns why that is impossible, or "".
  std::string prepare();

  // Bits by which the candidate's results differ from the original's over all tests: 0 means equal on all of them,
  // `unsafe` that it may not run.  Stops early with some number above `bound` once that is exceeded.
  uint64_t errors(const Insn* candidate, int count, uint64_t bound = unsafe - 1);

  uint64_t slots(const Insn* candidate, int count) const;
  uint64_t picoseconds(const Insn* candidate, int count) const;

  const Problem& problem() const { return problem_; }
  // How many candidates were run on the lanes so far: those that the static walk refuses are not.
  uint64_t runs() const { return runs_; }
  int tests() const { return static_cast<int>(problem_.batches.size()) * lane_count; }
  const Lanes& lanes() const { return *lanes_; }
  // Is the state behind a candidate, as the static walk left it, one that the original's successors may meet?
  bool exit_types_fit(const StaticState& state) const;
  const uint8_t* const* memory_masks() const { return memory_masks_.data(); }
  Problem& mutable_problem() { return problem_; }
  const StaticState& exit() const { return exit_; }

 private:
  std::string record(Batch& batch, const std::vector<Step>& steps);
  std::string prepare_region();
  std::string record_region(Batch& batch, const std::vector<Step>& steps);
  uint64_t region_errors(const Insn* candidate, int count, uint64_t bound);
  bool leaves_fit(const Arrivals& arrivals) const;
  const uint8_t* stack_mask(size_t exit) const;
  bool types_fit(const StaticState& state, const StaticState& was, const uint64_t* registers,
                 const uint8_t* stack) const;

  Problem problem_;
  const Lanes* lanes_;
  StaticState exit_;
  uint64_t runs_ = 0;
  std::array<Leaving, max_exits> leavings_{};  // of the original
  std::unique_ptr<Arrivals> arrivals_ = std::make_unique<Arrivals>();
  bool is_stack_[max_regions] = {};
  std::vector<const uint8_t*> memory_masks_;
};

// Between evaluations the registers and images of every batch hold the test inputs.
// Puts the registers back to the test inputs.
void reset_registers(Batch& batch);
// Puts the written bytes of every region back to the test inputs.
void reset_memory(Batch& batch);

}  // namespace k2
