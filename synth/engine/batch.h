// Test inputs in the form the lanes run on: everything that varies per test is an array over 32 lanes.
#pragma once

#include <cstdint>
#include <vector>

#include "operation.h"

namespace k2 {

inline constexpr int lane_count = 32;
inline constexpr int max_regions = 24;

struct alignas(64) Row {
  uint64_t lane[lane_count];
};

// A memory region of one batch.  Lane l's bytes are image[l * stride, l * stride + stride); they lie at address
// base.lane[l] and accesses must end at or before `limit.lane[l]` bytes from there.
struct RegionLanes {
  Row base{};
  Row limit{};
  uint64_t least_limit = 0;  // of all lanes
  uint32_t stride = 0;       // a multiple of 8
  std::vector<uint8_t> initial;
  std::vector<uint8_t> image;         // equals `initial` between evaluations
  std::vector<uint8_t> expected;      // what the original leaves
  uint32_t dirty_begin = UINT32_MAX;  // bytes [dirty_begin, dirty_end) of some lane's image were written
  uint32_t dirty_end = 0;
  uint32_t expected_begin = UINT32_MAX;  // the same for the original
  uint32_t expected_end = 0;
};

// One access to shared memory by the original: a candidate must make the same accesses in the same order.
struct EventLanes {
  Row address{};
  Row value{};  // what a load returns, or what the original stored
};

struct Batch {
  Row initial[register_count];
  Row reg[register_count];
  Row expected[register_count];
  std::vector<RegionLanes> regions;
  std::vector<EventLanes> events;
  std::vector<Row> symbols;
  uint64_t event_error = 0;  // bits by which the addresses and stored values of events differ so far
  // Of programs with branches: the place that each lane goes on at, the exit by which the original leaves, and what is
  // wanted behind that.
  Row resume{};
  Row exit{};
  Row demand[register_count];
};

// How to run one instruction: resolved by the static walk (types.h), so that the lanes decide nothing.
struct Step {
  enum class Kind : uint8_t { alu, load, store, shared_load, shared_store, constant, symbol, branch };
  Insn insn;
  int32_t exact = -1;  // bytes from the region's base to the accessed place, where the walk knows it
  Kind kind = Kind::alu;
  uint8_t region = 0;
  uint8_t event = 0;
  uint8_t place = 0;  // index in the program, no-ops included
};

// The inner loops, compiled once per instruction set of the host (lanes.cpp).
struct Lanes {
  const char* name;
  // Runs the steps on batch.reg and the images; false as soon as a lane leaves its region.
  bool (*run)(const Step* steps, int count, Batch& batch, bool big_endian);
  // Bits that differ from the expected results: in registers under the masks, and in the bytes under `memory_mask`
  // (one mask byte per byte of a lane's image, null when every byte counts).  Stops counting above `bound`.
  uint64_t (*difference)(const Batch& batch, const uint64_t* register_masks, const uint8_t* const* memory_masks,
                         uint64_t bound);
  // The same for a program with branches, of `length` instructions with its no-ops: each lane goes its own way, and
  // batch.resume then holds length + e where it left by exit e other than by falling through.  With `records` the
  // accesses to shared memory are not compared but become what is expected.
  bool (*run_region)(const Step* steps, int count, int length, Batch& batch, bool big_endian, bool records);
  // Like `difference`, with the exit taken, and what is wanted behind it: `stack_masks` has one mask per exit.
  uint64_t (*region_difference)(const Batch& batch, int length, const bool* is_stack, const uint8_t* const* stack_masks,
                                uint64_t bound);
  // What an ALU or byte-swap instruction would leave in its destination, in one lane.
  uint64_t (*alu_in_lane)(const Insn& insn, const Batch& batch, int lane, bool big_endian);
  // For which of up to 64 immediates (a bit each) an ALU instruction of that shape makes `expected` out of `value`, as
  // far as `mask` goes.
  uint64_t (*matching)(const Insn& shape, const int64_t* immediates, int count, uint64_t value, uint64_t expected,
                       uint64_t mask);
  // A number that differs for different rows, with the odds of 64 bits.
  uint64_t (*hash)(const Row& row);
};

const Lanes& best_lanes();
// Every variant this machine can run, the generic one first: the tests compare them.
std::vector<const Lanes*> available_lanes();

}  // namespace k2
