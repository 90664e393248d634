#include "enumerate.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>

namespace k2 {
namespace {

constexpr int max_depth = 3;
// Not one of the first, which hold extreme values.
constexpr int first_lane = 9;
// Instructions that are looked at and put aside in the time that one takes to run.
constexpr size_t looks_per_run = 8;

bool same(const Row& a, const Row& b, uint64_t mask) {
  uint64_t any = 0;
  for (int l = 0; l < lane_count; ++l) any |= (a.lane[l] ^ b.lane[l]) & mask;
  return any == 0;
}

uint64_t mix(uint64_t sum, uint64_t value) {
  sum = (sum ^ value) * 0x9e3779b97f4a7c15ULL;
  return sum ^ (sum >> 32);
}

unsigned bit(int reg) { return 1U << reg; }

unsigned read_registers(const Insn& insn) {
  return (reads_src(insn) ? bit(insn.src) : 0U) | (reads_dst(insn.op) ? bit(insn.dst) : 0U);
}

// What still differs from the expected results.
struct Missing {
  unsigned registers = 0;  // a bit for each
  bool memory = false;
  int events = 0;  // shared accesses still to be made

  bool nothing() const { return registers == 0 && !memory && events == 0; }
  // A lower bound on the instructions that can mend this.  A shared load mends an event and a register at once.
  int least() const { return std::max(std::popcount(registers) + (memory ? 1 : 0), events); }
};

// Last instructions that write one register, by how quickly nearly all of them can be told to be wrong.
struct Finals {
  struct Group {
    Insn shape;
    std::vector<int64_t> immediates;  // at most 64
  };
  std::vector<Group> groups;  // of an immediate and dst alone
  std::vector<Insn> others;
};

// How far a program has come.
struct Prefix {
  unsigned pending = 0;  // registers with results that nothing has used yet and that are not what is expected
  uint64_t slots = 0;
  uint64_t picoseconds = 0;
  size_t last = 0;      // the index of the last instruction
  bool stored = false;  // is there a store in it?
};

class Enumeration {
 public:
  Enumeration(Evaluator& evaluator, const Domain& domain, const EnumerationSettings& settings)
      : evaluator_(evaluator), problem_(evaluator.mutable_problem()), settings_(settings), walk_(problem_.frame) {
    const auto& original = problem_.original;
    slots_ = evaluator.slots(original.data(), static_cast<int>(original.size()));
    picoseconds_ = evaluator.picoseconds(original.data(), static_cast<int>(original.size()));
    all_ = all_instructions(domain);
    std::stable_sort(all_.begin(), all_.end(), [&](const Insn& a, const Insn& b) {
      return std::pair(slots_of(a.op), price(a)) < std::pair(slots_of(b.op), price(b));
    });
    for (const Insn& insn : all_) add_final(insn);
    for (int r = 0; r < register_count; ++r) {
      if (problem_.register_demand[static_cast<size_t>(r)] != 0) demanded_ |= bit(r);
    }
    find_clean(domain);
    for (auto& rows : saved_) rows.resize(problem_.batches.size());
  }

  EnumerationResult run() {
    for (Batch& batch : problem_.batches) reset_registers(batch);
    state_ = problem_.entry;
    for (int r = 0; r < register_count; ++r) {
      if (differs(r)) missing_.registers |= bit(r);
    }
    missing_.memory = memory_differs();
    missing_.events = static_cast<int>(problem_.frame.events.size());
    if (missing_.nothing() && evaluator_.exit_types_fit(state_)) offer(0);
    extend(0, Prefix{});
    for (Batch& batch : problem_.batches) {
      reset_memory(batch);
      reset_registers(batch);
    }
    keep_cheapest(result_.found, settings_.keep);
    return std::move(result_);
  }

 private:
  uint64_t price(const Insn& insn) const { return problem_.picoseconds[shape_of(insn)]; }

  void add_final(const Insn& insn) {
    if (is_store(insn.op)) {
      stores_.push_back(insn);
      return;
    }
    Finals& finals = finals_[insn.dst];
    const bool has_immediate = is_alu(insn.op) && insn.op <= Op::arsh && !insn.from_reg;
    if (!has_immediate) {
      finals.others.push_back(insn);
      return;
    }
    for (Finals::Group& group : finals.groups) {
      if (group.shape.op != insn.op || group.shape.width != insn.width || group.immediates.size() >= 64) continue;
      group.immediates.push_back(insn.imm);
      return;
    }
    finals.groups.push_back({insn, {insn.imm}});
  }

  // Registers that hold nothing at entry and nothing that is wanted are interchangeable.
  void find_clean(const Domain& domain) {
    for (const uint8_t reg : domain.writable) {
      if (problem_.register_demand[reg] == 0 && problem_.entry.reg[reg].kind == Type::uninit) clean_.push_back(reg);
    }
  }

  bool is_next_clean(uint8_t reg, unsigned used) const {
    for (const uint8_t known : clean_) {
      if (known == reg) return true;
      if ((used & bit(known)) == 0) return false;
    }
    return true;
  }

  bool differs(int reg) const {
    const uint64_t mask = problem_.register_demand[static_cast<size_t>(reg)];
    return mask != 0 && std::any_of(problem_.batches.begin(), problem_.batches.end(), [&](const Batch& batch) {
             return !same(batch.reg[reg], batch.expected[reg], mask);
           });
  }

  bool memory_differs() const {
    const uint64_t no_registers[register_count] = {};
    return std::any_of(problem_.batches.begin(), problem_.batches.end(), [&](const Batch& b) {
      const uint64_t events = b.event_error;
      return evaluator_.lanes().difference(b, no_registers, evaluator_.memory_masks(), events) > events;
    });
  }

  bool event_differs() const {
    return std::any_of(problem_.batches.begin(), problem_.batches.end(),
                       [](const Batch& b) { return b.event_error != 0; });
  }

  bool run_step(const Step& step) {
    for (Batch& batch : problem_.batches) {
      ++result_.evaluations;
      if (!evaluator_.lanes().run(&step, 1, batch, problem_.big_endian)) return false;
    }
    return true;
  }

  bool is_exhausted() {
    if (result_.evaluations >= settings_.budget) result_.complete = false;
    return !result_.complete;
  }

  // ---- one level: every instruction after the `depth` that are there ----

  void extend(int depth, const Prefix& prefix) {
    const int left = settings_.longest - depth;
    if (left <= 0 || missing_.least() > left || prefix.slots + 1 > slots_) return;
    if (left == 1) {
      finish(depth, prefix);
      return;
    }
    result_.evaluations += all_.size() / looks_per_run;
    for (size_t index = 0; index < all_.size() && !is_exhausted(); ++index) {
      const Insn& insn = all_[index];
      if (is_promising(insn, index, depth, prefix)) attempt(insn, index, depth, prefix);
    }
  }

  bool is_promising(const Insn& insn, size_t index, int depth, const Prefix& prefix) const {
    const int left = settings_.longest - depth - 1;
    const unsigned reads = read_registers(insn);
    if (prefix.slots + static_cast<uint64_t>(slots_of(insn.op)) + static_cast<uint64_t>(left > 0) > slots_)
      return false;
    if (settings_.never_slower && prefix.picoseconds + price(insn) > picoseconds_) return false;
    if (is_store(insn.op)) return std::popcount(prefix.pending & ~reads) <= 2 * left;
    // A result that nothing has used may not be overwritten.
    if ((prefix.pending & bit(insn.dst) & ~reads) != 0) return false;
    if ((demanded_ & bit(insn.dst)) == 0 && !is_next_clean(insn.dst, used_[depth])) return false;
    if (std::popcount((prefix.pending & ~reads) | bit(insn.dst)) > 2 * left) return false;
    if (std::popcount(missing_.registers & ~bit(insn.dst)) > left) return false;
    // Of two instructions that do not touch each other's registers, the earlier one of the list comes first.
    return depth == 0 || index > prefix.last || is_store(program_[depth - 1].op) || touches(program_[depth - 1], insn);
  }

  static bool touches(const Insn& first, const Insn& second) {
    return first.dst == second.dst || (read_registers(second) & bit(first.dst)) != 0 ||
           (read_registers(first) & bit(second.dst)) != 0 || is_load(first.op) || is_load(second.op);
  }

  void attempt(const Insn& insn, size_t index, int depth, const Prefix& prefix) {
    const Missing missing = missing_;
    const int events = walk_.events();
    const bool is_write = writes_register(insn.op);
    const Type type = state_.reg[insn.dst];
    Step step;
    const StaticState* whole = nullptr;
    if (!is_write) whole = &(states_[depth] = state_);
    if (walk_.step(insn, state_, step)) {
      keep(insn, depth);
      program_[depth] = insn;
      steps_[depth] = step;
      used_[depth + 1] = used_[depth] | (is_write ? bit(insn.dst) : 0U);
      if (run_step(step) && !event_differs()) enter(insn, index, depth, prefix);
      undo(insn, depth);
    }
    if (is_write) {
      state_.reg[insn.dst] = type;
    } else {
      state_ = *whole;
    }
    walk_.resume(events);
    missing_ = missing;
  }

  void enter(const Insn& insn, size_t index, int depth, const Prefix& prefix) {
    Prefix next = prefix;
    next.last = index;
    next.slots += static_cast<uint64_t>(slots_of(insn.op));
    next.picoseconds += price(insn);
    next.pending &= ~read_registers(insn);
    missing_.events = static_cast<int>(problem_.frame.events.size()) - walk_.events();
    if (writes_register(insn.op)) {
      const bool wrong = differs(insn.dst);
      missing_.registers = (missing_.registers & ~bit(insn.dst)) | (wrong ? bit(insn.dst) : 0U);
      const bool arrived = (demanded_ & bit(insn.dst)) != 0 && !wrong;
      next.pending = (next.pending & ~bit(insn.dst)) | (arrived ? 0U : bit(insn.dst));
    } else {
      next.stored = true;
      missing_.memory = memory_differs();
    }
    if (missing_.nothing() && next.pending == 0 && evaluator_.exit_types_fit(state_)) offer(depth + 1);
    if (!is_known(next)) extend(depth + 1, next);
  }

  // Was this state reached before, at no greater cost?
  bool is_known(const Prefix& prefix) {
    uint64_t key = mix(static_cast<uint64_t>(walk_.events()), prefix.pending);
    for (const Batch& batch : problem_.batches) {
      for (int r = 0; r < register_count; ++r) {
        if (state_.reg[r].kind != Type::uninit) key = mix(key, evaluator_.lanes().hash(batch.reg[r]) + bit(r));
      }
      if (prefix.stored) key = mix(key, memory_hash(batch));
    }
    for (const Type& type : state_.reg) key = mix(key, type_hash(type));
    if (prefix.stored) {
      for (size_t s = 0; s < stack_slots; ++s) key = mix(key, type_hash(state_.slot[s]) << 8 | state_.initialised[s]);
    }
    const uint64_t cost = prefix.slots << 48 | prefix.picoseconds;
    const auto [at, is_new] = known_.try_emplace(key, cost);
    result_.states += is_new ? 1U : 0U;
    if (!is_new && at->second <= cost) return true;
    at->second = cost;
    return false;
  }

  static uint64_t type_hash(const Type& type) {
    return static_cast<uint64_t>(type.kind) << 40 | static_cast<uint64_t>(type.exact) << 32 |
           static_cast<uint32_t>(type.off);
  }

  static uint64_t memory_hash(const Batch& batch) {
    uint64_t sum = 0;
    for (size_t r = 0; r < batch.regions.size(); ++r) {
      const RegionLanes& region = batch.regions[r];
      for (size_t at = region.dirty_begin & ~7U; at < region.dirty_end; at += 8) {
        for (size_t l = 0; l < lane_count; ++l) {
          uint64_t now = 0;
          uint64_t then = 0;
          std::memcpy(&now, region.image.data() + l * region.stride + at, 8);
          std::memcpy(&then, region.initial.data() + l * region.stride + at, 8);
          if (now != then) sum += mix(now ^ then, (r * 4096 + at) * lane_count + l);
        }
      }
    }
    return sum;
  }

  // ---- doing and undoing ----

  void keep(const Insn& insn, int depth) {
    for (size_t b = 0; b < problem_.batches.size(); ++b) {
      Batch& batch = problem_.batches[b];
      if (is_store(insn.op)) {
        saved_[depth][b] = {batch.reg[insn.dst], batch.reg[insn.src]};
      } else {
        saved_[depth][b].first = batch.reg[insn.dst];
      }
    }
  }

  void undo(const Insn& insn, int depth) {
    for (Batch& batch : problem_.batches) batch.event_error = 0;
    if (!is_store(insn.op)) {
      for (size_t b = 0; b < problem_.batches.size(); ++b) problem_.batches[b].reg[insn.dst] = saved_[depth][b].first;
      return;
    }
    for (Batch& batch : problem_.batches) reset_memory(batch);
    for (int earlier = 0; earlier < depth; ++earlier) replay(earlier);
  }

  // An earlier store again, with the registers that it had.
  void replay(int depth) {
    const Step& step = steps_[depth];
    if (!is_store(step.insn.op)) return;
    const Insn& insn = step.insn;
    for (size_t b = 0; b < problem_.batches.size(); ++b) {
      Batch& batch = problem_.batches[b];
      const Row base = batch.reg[insn.dst];
      const Row value = batch.reg[insn.src];
      batch.reg[insn.dst] = saved_[depth][b].first;
      batch.reg[insn.src] = saved_[depth][b].second;
      evaluator_.lanes().run(&step, 1, batch, problem_.big_endian);
      batch.event_error = 0;
      batch.reg[insn.dst] = base;
      batch.reg[insn.src] = value;
    }
  }

  // ---- the last instruction ----

  void finish(int depth, const Prefix& prefix) {
    if (missing_.registers == 0) {
      if (missing_.memory || missing_.events > 0) finish_memory(depth, prefix);
      return;
    }
    const int reg = std::countr_zero(missing_.registers);
    const Finals& finals = finals_[static_cast<size_t>(reg)];
    if ((prefix.pending & ~bit(reg)) == 0) {
      for (const Finals::Group& group : finals.groups) finish_group(group, depth, prefix);
    }
    result_.evaluations += finals.others.size() / looks_per_run;
    for (const Insn& insn : finals.others) {
      const unsigned reads = read_registers(insn);
      if ((prefix.pending & ~reads) == 0 && !misses_at_once(insn)) finish_register(insn, depth, prefix);
    }
  }

  void finish_group(const Finals::Group& group, int depth, const Prefix& prefix) {
    const Insn& shape = group.shape;
    if ((prefix.pending & bit(shape.dst)) != 0 && is_move(shape.op)) return;
    if (reads_dst(shape.op) && state_.reg[shape.dst].kind == Type::uninit) return;
    const Batch& batch = problem_.batches[0];
    result_.evaluations += 1;
    uint64_t found =
        evaluator_.lanes().matching(shape, group.immediates.data(), static_cast<int>(group.immediates.size()),
                                    batch.reg[shape.dst].lane[first_lane], batch.expected[shape.dst].lane[first_lane],
                                    problem_.register_demand[shape.dst]);
    for (; found != 0; found &= found - 1) {
      Insn insn = shape;
      insn.imm = group.immediates[static_cast<size_t>(std::countr_zero(found))];
      finish_register(insn, depth, prefix);
    }
  }

  // Does the instruction miss what is expected in the lane that is looked at first?  Nearly all do.
  bool misses_at_once(const Insn& insn) {
    if (!is_alu(insn.op)) return false;
    const Batch& batch = problem_.batches[0];
    const uint64_t got = evaluator_.lanes().alu_in_lane(insn, batch, first_lane, problem_.big_endian);
    return ((got ^ batch.expected[insn.dst].lane[first_lane]) & problem_.register_demand[insn.dst]) != 0;
  }

  bool costs_too_much(const Insn& insn, const Prefix& prefix) const {
    return prefix.slots + static_cast<uint64_t>(slots_of(insn.op)) > slots_ ||
           (settings_.never_slower && prefix.picoseconds + price(insn) > picoseconds_);
  }

  void finish_register(const Insn& insn, int depth, const Prefix& prefix) {
    if (costs_too_much(insn, prefix)) return;
    Step step;
    const Type type = state_.reg[insn.dst];
    const int events = walk_.events();
    if (walk_.step(insn, state_, step) && walk_.events() - events == missing_.events && !missing_.memory) {
      const uint64_t mask = problem_.register_demand[insn.dst];
      bool equal = true;
      for (Batch& batch : problem_.batches) {
        const Row old = batch.reg[insn.dst];
        ++result_.evaluations;
        equal = evaluator_.lanes().run(&step, 1, batch, problem_.big_endian) && batch.event_error == 0 &&
                same(batch.reg[insn.dst], batch.expected[insn.dst], mask);
        batch.reg[insn.dst] = old;
        batch.event_error = 0;
        if (!equal) break;
      }
      program_[depth] = insn;
      if (equal && evaluator_.exit_types_fit(state_)) offer(depth + 1);
    }
    state_.reg[insn.dst] = type;
    walk_.resume(events);
  }

  void finish_memory(int depth, const Prefix& prefix) {
    result_.evaluations += stores_.size() / looks_per_run;
    for (const Insn& insn : stores_) {
      if ((prefix.pending & ~read_registers_of_store(insn)) != 0 || costs_too_much(insn, prefix)) continue;
      if (is_exhausted()) return;
      const int events = walk_.events();
      states_[depth] = state_;
      Step step;
      if (walk_.step(insn, state_, step) && walk_.events() - events == missing_.events) {
        keep(insn, depth);
        const bool equal = run_step(step) && !event_differs() && !memory_differs();
        program_[depth] = insn;
        if (equal && evaluator_.exit_types_fit(state_)) offer(depth + 1);
        undo(insn, depth);
      }
      state_ = states_[depth];
      walk_.resume(events);
    }
  }

  static unsigned read_registers_of_store(const Insn& insn) {
    return bit(insn.dst) | (insn.op == Op::store ? bit(insn.src) : 0U);
  }

  void offer(int length) {
    Found found{
        {}, evaluator_.slots(program_.data(), length), evaluator_.picoseconds(program_.data(), length), offered_++};
    if (settings_.never_slower && found.picoseconds > picoseconds_) return;
    if (found.slots > slots_ || (found.slots == slots_ && found.picoseconds >= picoseconds_)) return;
    found.program.assign(program_.begin(), program_.begin() + length);
    result_.found.push_back(std::move(found));
    if (result_.found.size() >= 4 * static_cast<size_t>(settings_.keep) + 64)
      keep_cheapest(result_.found, settings_.keep);
  }

  Evaluator& evaluator_;
  Problem& problem_;
  const EnumerationSettings settings_;
  Walk walk_;
  std::vector<Insn> all_;  // cheapest first
  std::vector<Insn> stores_;
  std::array<Finals, register_count> finals_;
  std::vector<uint8_t> clean_;
  unsigned demanded_ = 0;
  uint64_t slots_ = 0;
  uint64_t picoseconds_ = 0;
  uint64_t offered_ = 0;

  // The state behind the instructions in work, and what it takes to go back.
  StaticState state_;
  Missing missing_;
  std::array<Insn, max_depth> program_{};
  std::array<Step, max_depth> steps_{};
  std::array<StaticState, max_depth> states_{};
  std::array<unsigned, max_depth + 1> used_{};
  std::array<std::vector<std::pair<Row, Row>>, max_depth> saved_;
  std::unordered_map<uint64_t, uint64_t> known_;  // states met, and the least cost of a program that leads there
  EnumerationResult result_;
};

}  // namespace

EnumerationResult enumerate(Evaluator& evaluator, const Domain& domain, const EnumerationSettings& settings) {
  EnumerationSettings bounded = settings;
  bounded.longest = std::clamp(settings.longest, 0, max_depth);
  return Enumeration(evaluator, domain, bounded).run();
}

}  // namespace k2
