#include "enumerate.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace k2 {
namespace {

bool same(const Row& a, const Row& b, uint64_t mask) {
  uint64_t any = 0;
  for (int l = 0; l < lane_count; ++l) any |= (a.lane[l] ^ b.lane[l]) & mask;
  return any == 0;
}

// Not one of the first, which hold extreme values.
constexpr int first_lane = 9;

// What still differs from the expected results.
struct Missing {
  int registers = 0;
  int reg = -1;  // the one register, when registers == 1
  bool memory = false;
  int events = 0;  // shared accesses still to be made

  bool nothing() const { return registers == 0 && !memory && events == 0; }
  // A lower bound on the instructions that can mend this.  A shared load mends an event and a register at once.
  int least() const { return std::max(registers + (memory ? 1 : 0), events); }
};

class Enumeration {
 public:
  Enumeration(Evaluator& evaluator, const Domain& domain, const EnumerationSettings& settings)
      : evaluator_(evaluator), problem_(evaluator.mutable_problem()), settings_(settings), walk_(problem_.frame) {
    all_ = all_instructions(domain);
    for (const Insn& insn : all_) {
      if (is_store(insn.op)) {
        stores_.push_back(insn);
      } else {
        by_dst_[insn.dst].push_back(insn);
      }
    }
    const auto& original = problem_.original;
    slots_ = evaluator.slots(original.data(), static_cast<int>(original.size()));
    picoseconds_ = evaluator.picoseconds(original.data(), static_cast<int>(original.size()));
  }

  EnumerationResult run() {
    for (Batch& batch : problem_.batches) reset_registers(batch);
    state_ = problem_.entry;
    const Missing missing = look();
    if (missing.nothing()) offer({});
    if (settings_.longest >= 1 && missing.least() <= 2) first_level(missing);
    for (Batch& batch : problem_.batches) {
      reset_memory(batch);
      reset_registers(batch);
    }
    keep_cheapest(result_.found, settings_.keep);
    return std::move(result_);
  }

 private:
  Missing look() const {
    Missing missing;
    for (int r = 0; r < register_count; ++r) {
      const uint64_t mask = problem_.register_demand[static_cast<size_t>(r)];
      for (const Batch& batch : problem_.batches) {
        if (mask == 0 || same(batch.reg[r], batch.expected[r], mask)) continue;
        ++missing.registers;
        missing.reg = r;
        break;
      }
    }
    missing.memory = memory_differs();
    missing.events = static_cast<int>(problem_.frame.events.size()) - walk_.events();
    return missing;
  }

  bool run_step(const Step& step) {
    ++result_.evaluations;
    for (Batch& batch : problem_.batches) {
      if (!evaluator_.lanes().run(&step, 1, batch, problem_.big_endian)) return false;
    }
    return true;
  }

  void first_level(const Missing& at_entry) {
    for (const Insn& insn : all_) {
      if (result_.evaluations >= settings_.budget) {
        result_.complete = false;
        return;
      }
      Step step;
      state_ = problem_.entry;
      walk_.resume(0);
      if (!walk_.step(insn, state_, step)) continue;
      if (writes_register(insn.op) && !is_useful_target(insn.dst, at_entry)) continue;
      const bool ran = run_step(step);
      if (ran && !event_differs()) extend(insn, at_entry);
      undo(insn);
    }
  }

  // Scratch registers are interchangeable: only the first one the domain offers is tried as an intermediate.
  bool is_useful_target(uint8_t dst, const Missing& at_entry) {
    if (problem_.register_demand[dst] != 0) return at_entry.registers > 0;
    if (scratch_ < 0) scratch_ = dst;
    return settings_.longest >= 2 && dst == scratch_;
  }

  bool event_differs() const {
    return std::any_of(problem_.batches.begin(), problem_.batches.end(),
                       [](const Batch& b) { return b.event_error != 0; });
  }

  void undo(const Insn& insn) {
    for (Batch& batch : problem_.batches) {
      batch.event_error = 0;
      if (is_store(insn.op)) {
        reset_memory(batch);
      } else {
        batch.reg[insn.dst] = batch.initial[insn.dst];
      }
    }
  }

  void extend(const Insn& first, const Missing& at_entry) {
    const Missing missing = look();
    if (missing.nothing()) {
      if (evaluator_.exit_types_fit(state_)) offer({first});
      return;
    }
    if (settings_.longest < 2 || missing.least() > 1 || !may_beat(first)) return;
    // The first instruction earned its place by itself if it mended something; else the second has to use its result.
    const bool earned = missing.registers < at_entry.registers || (at_entry.memory && !missing.memory) ||
                        missing.events < at_entry.events || is_store(first.op);
    saved_state_ = state_;
    saved_events_ = walk_.events();
    if (missing.registers == 1 && !missing.memory) {
      for (const Insn& second : by_dst_[static_cast<size_t>(missing.reg)]) {
        if (earned || uses(second, first.dst)) register_second(first, second, missing);
      }
    } else if (missing.registers == 0) {
      for (const Insn& second : stores_) {
        if (earned || uses(second, first.dst)) store_second(first, second);
      }
    }
  }

  static bool uses(const Insn& insn, uint8_t reg) {
    return (reads_src(insn) && insn.src == reg) || (reads_dst(insn.op) && insn.dst == reg);
  }

  bool may_beat(const Insn& first) const { return static_cast<uint64_t>(slots_of(first.op)) + 1 <= slots_; }

  // Does the instruction miss what is expected in the lane that is looked at first?  Nearly all do.
  bool misses_at_once(const Insn& second) {
    if (!is_alu(second.op)) return false;
    ++result_.evaluations;
    const Batch& batch = problem_.batches[0];
    const uint64_t got = evaluator_.lanes().alu_in_lane(second, batch, first_lane, problem_.big_endian);
    const uint64_t wrong = got ^ batch.expected[second.dst].lane[first_lane];
    return (wrong & problem_.register_demand[second.dst]) != 0;
  }

  void register_second(const Insn& first, const Insn& second, const Missing& missing) {
    if (misses_at_once(second)) return;
    Step step;
    const Type old_type = state_.reg[second.dst];
    walk_.resume(saved_events_);
    if (walk_.step(second, state_, step) && walk_.events() - saved_events_ == missing.events) {
      const uint64_t mask = problem_.register_demand[second.dst];
      bool equal = true;
      for (Batch& batch : problem_.batches) {
        const Row old = batch.reg[second.dst];
        ++result_.evaluations;
        equal = evaluator_.lanes().run(&step, 1, batch, problem_.big_endian) && batch.event_error == 0 &&
                same(batch.reg[second.dst], batch.expected[second.dst], mask);
        batch.reg[second.dst] = old;
        batch.event_error = 0;
        if (!equal) break;
      }
      if (equal && evaluator_.exit_types_fit(state_)) offer({first, second});
    }
    state_.reg[second.dst] = old_type;
  }

  void store_second(const Insn& first, const Insn& second) {
    StaticState state = saved_state_;
    Step step;
    walk_.resume(saved_events_);
    if (!walk_.step(second, state, step)) return;
    if (walk_.events() != static_cast<int>(problem_.frame.events.size())) return;
    const bool ran = run_step(step);
    const bool equal = ran && !memory_differs() && !event_differs();
    for (Batch& batch : problem_.batches) {
      reset_memory(batch);
      batch.event_error = 0;
    }
    if (equal && evaluator_.exit_types_fit(state)) offer({first, second});
    if (is_store(first.op)) {
      // Both stores were taken back: do the first one again.
      Step again;
      StaticState ignored = problem_.entry;
      walk_.resume(0);
      if (walk_.step(first, ignored, again)) run_step(again);
    }
  }

  bool memory_differs() const {
    const uint64_t no_registers[register_count] = {};
    return std::any_of(problem_.batches.begin(), problem_.batches.end(), [&](const Batch& b) {
      const uint64_t events = b.event_error;
      return evaluator_.lanes().difference(b, no_registers, evaluator_.memory_masks(), events) > events;
    });
  }

  void offer(std::vector<Insn> program) {
    const int count = static_cast<int>(program.size());
    Found found{{},
                evaluator_.slots(program.data(), count),
                evaluator_.picoseconds(program.data(), count),
                result_.found.size()};
    if (settings_.never_slower && found.picoseconds > picoseconds_) return;
    if (found.slots > slots_ || (found.slots == slots_ && found.picoseconds >= picoseconds_)) return;
    found.program = std::move(program);
    result_.found.push_back(std::move(found));
  }

  Evaluator& evaluator_;
  Problem& problem_;
  const EnumerationSettings settings_;
  Walk walk_;
  std::vector<Insn> all_;
  std::vector<Insn> stores_;
  std::array<std::vector<Insn>, register_count> by_dst_;
  uint64_t slots_ = 0;
  uint64_t picoseconds_ = 0;
  int scratch_ = -1;
  StaticState state_;
  StaticState saved_state_;
  int saved_events_ = 0;
  EnumerationResult result_;
};

}  // namespace

EnumerationResult enumerate(Evaluator& evaluator, const Domain& domain, const EnumerationSettings& settings) {
  return Enumeration(evaluator, domain, settings).run();
}

}  // namespace k2
