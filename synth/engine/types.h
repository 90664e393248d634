// The cheap static walk over a candidate: which registers hold numbers and which hold pointers into what.
//
// It refuses what the kernel's verifier would refuse anyway (arithmetic on pointers, uninitialised reads, misaligned
// stack accesses, narrow pointer spills), so that the search does not waste proofs on it, and it resolves each memory
// access to its region.  It is a filter, not a judge: the door asks the real checker.
#pragma once

#include <array>
#include <vector>

#include "batch.h"
#include "operation.h"

namespace k2 {

inline constexpr int stack_bytes = 512;
inline constexpr int stack_slots = stack_bytes / 8;
inline constexpr int max_length = 64;

struct Type {
  static constexpr uint8_t uninit = 0xFF;
  static constexpr uint8_t scalar = 0xFE;

  uint8_t kind = uninit;  // uninit, scalar, or the index of the region that the pointer points into
  bool exact = false;     // is `off` the pointer's distance from the region's base (in bytes)?
  int32_t off = 0;

  bool is_pointer() const { return kind < scalar; }
  bool is_scalar() const { return kind == scalar; }
};

struct RegionRules {
  bool accessible = false;  // may be dereferenced in a window
  bool shared = false;      // others may see and change it: accesses are events
  bool is_stack = false;
  bool immediate_arithmetic = false;
  bool register_arithmetic = false;
  bool subtractable = false;  // a difference of two such pointers is a number
  bool store_immediate = false;
  bool aligned = false;     // accesses must be aligned to their size
  bool unmodified = false;  // may only be dereferenced as it came (context, kernel objects)
};

struct StaticState {
  Type reg[register_count];
  Type slot[stack_slots];              // what an aligned 8-byte store left there: a pointer, else scalar
  uint8_t initialised[stack_slots]{};  // one bit per byte
};

struct Event {
  Op op;
  uint8_t width;
  uint8_t region;
  Type result;  // of a load
};

struct Frame {
  std::vector<RegionRules> regions;
  std::vector<Type> symbols;
  std::vector<Event> events;
};

// How a program with branches leaves: at exit 0 by falling through, at exit e by branches with `off` -e.
struct Leaving {
  bool reached = false;
  int events = 0;  // accesses to shared memory before
  StaticState state;
};

inline constexpr int max_exits = 8;

// What was found at the places of a program with branches; to be kept from one walk to the next, for it is large.
struct Arrivals {
  uint64_t pending[2] = {0, 0};  // places, as bits, that some branch leads to
  std::array<int, max_length + 1> events{};
  std::array<StaticState, max_length + 1> states{};
  std::array<Leaving, max_exits> exits{};
};

class Walk {
 public:
  explicit Walk(const Frame& frame) : frame_(frame) {}
  // Walks `count` instructions (no-ops are skipped) from `state`, which becomes the state behind them.  Fills `steps`
  // and returns their number, or -1 when the candidate is refused.
  int run(const Insn* insns, int count, StaticState& state, Step* steps);
  // The same for a program that may branch forwards, to places of its own (indices, `count` is its end) and to `exits`
  // exits.  What nothing leads to is left out of the steps.  At a join what is known is what both sides know.
  int run_region(const Insn* insns, int count, int exits, const StaticState& entry, Step* steps, Arrivals& arrivals);
  bool step(const Insn& insn, StaticState& state, Step& step);
  // How many accesses to shared memory there were so far; `resume` goes back to an earlier number.
  int events() const { return events_; }
  void resume(int events) { events_ = events; }

 private:
  bool branch(const Insn& insn, int place, int count, int exits, const StaticState& state, Arrivals& arrivals) const;
  bool arrive(const StaticState& state, int place, Arrivals& arrivals) const;
  bool may_compare(const Insn& insn, const StaticState& state) const;
  bool alu(const Insn& insn, StaticState& state) const;
  bool add_sub(const Insn& insn, StaticState& state) const;
  bool load(const Insn& insn, StaticState& state, Step& step);
  bool store(const Insn& insn, StaticState& state, Step& step);
  bool address(const Insn& insn, const Type& base, const RegionRules& rules) const;
  static bool load_stack(const Insn& insn, const Type& base, StaticState& state);
  static bool store_stack(const Insn& insn, const Type& base, StaticState& state);

  const Frame& frame_;
  int events_ = 0;
};

}  // namespace k2
