#include "types.h"

namespace k2 {
namespace {

constexpr Type number{Type::scalar, false, 0};

bool is_binary(const Insn& insn) { return reads_dst(insn.op); }

}  // namespace

int Walk::run(const Insn* insns, int count, StaticState& state, Step* steps) {
  int filled = 0;
  for (int i = 0; i < count; ++i) {
    if (insns[i].op == Op::nop) continue;
    if (!step(insns[i], state, steps[filled])) return -1;
    ++filled;
  }
  return filled;
}

namespace {

bool equal(const Type& a, const Type& b) { return a.kind == b.kind && a.exact == b.exact && a.off == b.off; }

Type joined(const Type& a, const Type& b) {
  if (equal(a, b)) return a;
  if (a.kind != b.kind) return Type{};
  return Type{a.kind, false, 0};
}

void join(StaticState& state, const StaticState& other) {
  for (size_t r = 0; r < register_count; ++r) state.reg[r] = joined(state.reg[r], other.reg[r]);
  for (size_t s = 0; s < stack_slots; ++s) {
    state.initialised[s] &= other.initialised[s];
    if (equal(state.slot[s], other.slot[s])) continue;
    // Bytes of an address on one side only: no later load may see them.
    state.slot[s] = number;
    state.initialised[s] = 0;
  }
}

bool is_pending(const Arrivals& arrivals, int place) {
  return (arrivals.pending[place / 64] >> (place % 64) & 1U) != 0;
}

}  // namespace

int Walk::run_region(const Insn* insns, int count, int exits, const StaticState& entry, Step* steps,
                     Arrivals& arrivals) {
  arrivals.pending[0] = arrivals.pending[1] = 0;
  for (Leaving& leaving : arrivals.exits) leaving.reached = false;
  StaticState state = entry;
  bool is_live = true;
  int filled = 0;
  for (int i = 0; i <= count; ++i) {
    if (is_pending(arrivals, i)) {
      const StaticState& other = arrivals.states[static_cast<size_t>(i)];
      const int events = arrivals.events[static_cast<size_t>(i)];
      if (is_live && events != events_) return -1;
      if (is_live) {
        join(state, other);
      } else {
        state = other;
        events_ = events;
      }
      is_live = true;
    }
    if (i == count) break;
    const Insn& insn = insns[i];
    if (insn.op == Op::nop || !is_live) continue;
    Step& step = steps[filled];
    step.place = static_cast<uint8_t>(i);
    if (is_branch(insn.op)) {
      step.insn = insn;
      step.kind = Step::Kind::branch;
      if (!branch(insn, i, count, exits, state, arrivals)) return -1;
      is_live = insn.op != Op::ja;
    } else if (!this->step(insn, state, step)) {
      return -1;
    }
    ++filled;
  }
  Leaving& end = arrivals.exits[0];
  end.reached = is_live;
  if (is_live) end.state = state;
  end.events = events_;
  return filled;
}

bool Walk::branch(const Insn& insn, int place, int count, int exits, const StaticState& state,
                  Arrivals& arrivals) const {
  if (is_conditional(insn.op) && !may_compare(insn, state)) return false;
  if (insn.off >= 0) return insn.off > place && insn.off <= count && arrive(state, insn.off, arrivals);
  if (-insn.off >= exits) return false;
  Leaving& leaving = arrivals.exits[static_cast<size_t>(-insn.off)];
  if (leaving.reached && leaving.events != events_) return false;
  if (leaving.reached) {
    join(leaving.state, state);
  } else {
    leaving.state = state;
  }
  leaving.reached = true;
  leaving.events = events_;
  return true;
}

bool Walk::arrive(const StaticState& state, int place, Arrivals& arrivals) const {
  const auto at = static_cast<size_t>(place);
  if (is_pending(arrivals, place)) {
    if (arrivals.events[at] != events_) return false;
    join(arrivals.states[at], state);
    return true;
  }
  arrivals.pending[place / 64] |= uint64_t{1} << (place % 64);
  arrivals.states[at] = state;
  arrivals.events[at] = events_;
  return true;
}

// Numbers with numbers; of pointers, the packet's with each other.
bool Walk::may_compare(const Insn& insn, const StaticState& state) const {
  const Type& dst = state.reg[insn.dst];
  if (dst.kind == Type::uninit) return false;
  if (!insn.from_reg) return dst.is_scalar();
  const Type& src = state.reg[insn.src];
  if (src.kind == Type::uninit) return false;
  if (dst.is_scalar() && src.is_scalar()) return true;
  return insn.width == 64 && dst.is_pointer() && src.is_pointer() && frame_.regions[dst.kind].subtractable &&
         frame_.regions[src.kind].subtractable;
}

bool Walk::step(const Insn& insn, StaticState& state, Step& step) {
  step.insn = insn;
  if (is_load(insn.op)) return load(insn, state, step);
  if (is_store(insn.op)) return store(insn, state, step);
  if (insn.dst == frame_pointer) return false;
  if (insn.op == Op::lddw) {
    step.kind = Step::Kind::constant;
    state.reg[insn.dst] = number;
    return true;
  }
  if (insn.op == Op::symbol) {
    step.kind = Step::Kind::symbol;
    state.reg[insn.dst] = frame_.symbols[static_cast<size_t>(insn.imm)];
    return true;
  }
  step.kind = Step::Kind::alu;
  return alu(insn, state);
}

bool Walk::alu(const Insn& insn, StaticState& state) const {
  Type& dst = state.reg[insn.dst];
  if (is_binary(insn) && dst.kind == Type::uninit) return false;
  if (insn.from_reg && state.reg[insn.src].kind == Type::uninit) return false;
  if (insn.width == 64) {
    if (insn.op == Op::mov) {
      dst = insn.from_reg ? state.reg[insn.src] : number;
      return true;
    }
    if (insn.op == Op::add || insn.op == Op::sub) return add_sub(insn, state);
  }
  if (is_binary(insn) && dst.is_pointer()) return false;
  if (insn.from_reg && state.reg[insn.src].is_pointer()) return false;
  if (!insn.from_reg && is_division(insn.op) && insn.imm == 0) return false;
  if (!insn.from_reg && is_shift(insn.op) && (insn.imm < 0 || insn.imm >= insn.width)) return false;
  dst = number;
  return true;
}

bool Walk::add_sub(const Insn& insn, StaticState& state) const {
  Type& dst = state.reg[insn.dst];
  const Type src = insn.from_reg ? state.reg[insn.src] : number;
  if (dst.is_pointer() && src.is_pointer()) {
    if (insn.op == Op::add || !frame_.regions[dst.kind].subtractable || !frame_.regions[src.kind].subtractable)
      return false;
    dst = number;
    return true;
  }
  if (dst.is_pointer()) {
    const RegionRules& rules = frame_.regions[dst.kind];
    if (insn.from_reg) {
      dst.exact = false;
      return rules.register_arithmetic;
    }
    const int64_t off = dst.off + (insn.op == Op::add ? insn.imm : -insn.imm);
    constexpr int64_t far = 1 << 28;
    if (!rules.immediate_arithmetic || off <= -far || off >= far) return false;
    dst.off = static_cast<int32_t>(off);
    return true;
  }
  if (src.is_pointer()) {
    if (insn.op == Op::sub || !frame_.regions[src.kind].register_arithmetic) return false;
    dst = Type{src.kind, false, 0};
  }
  return true;
}

bool Walk::address(const Insn& insn, const Type& base, const RegionRules& rules) const {
  if (!rules.accessible || (rules.unmodified && (!base.exact || base.off != 0))) return false;
  if (rules.aligned && base.exact && (base.off + insn.off) % (insn.width / 8) != 0) return false;
  return !rules.is_stack ||
         (base.exact && base.off + insn.off >= 0 && base.off + insn.off + insn.width / 8 <= stack_bytes);
}

bool Walk::load(const Insn& insn, StaticState& state, Step& step) {
  const Type base = state.reg[insn.src];
  if (insn.dst == frame_pointer || !base.is_pointer()) return false;
  const RegionRules& rules = frame_.regions[base.kind];
  if (!address(insn, base, rules)) return false;
  step.region = base.kind;
  step.exact = base.exact ? base.off + insn.off : -1;
  if (rules.shared) {
    if (events_ >= static_cast<int>(frame_.events.size())) return false;
    const Event& event = frame_.events[static_cast<size_t>(events_)];
    if (event.op != insn.op || event.width != insn.width || event.region != base.kind) return false;
    step.kind = Step::Kind::shared_load;
    step.event = static_cast<uint8_t>(events_++);
    state.reg[insn.dst] = event.result;
    return true;
  }
  step.kind = Step::Kind::load;
  if (rules.is_stack) return load_stack(insn, base, state);
  state.reg[insn.dst] = number;
  return true;
}

bool Walk::load_stack(const Insn& insn, const Type& base, StaticState& state) {
  const int at = base.off + insn.off;
  const int slot = at / 8;
  const unsigned bytes = ((1U << (insn.width / 8)) - 1U) << (at % 8);
  if ((state.initialised[slot] & bytes) != bytes) return false;
  if (state.slot[slot].is_pointer()) {
    if (insn.op != Op::load || insn.width != 64) return false;
    state.reg[insn.dst] = state.slot[slot];
    return true;
  }
  state.reg[insn.dst] = number;
  return true;
}

bool Walk::store(const Insn& insn, StaticState& state, Step& step) {
  const Type base = state.reg[insn.dst];
  if (!base.is_pointer()) return false;
  const RegionRules& rules = frame_.regions[base.kind];
  if (!address(insn, base, rules)) return false;
  const Type value = insn.op == Op::store ? state.reg[insn.src] : number;
  if (value.kind == Type::uninit || (value.is_pointer() && insn.width != 64)) return false;
  step.region = base.kind;
  step.exact = base.exact ? base.off + insn.off : -1;
  if (rules.shared) {
    if (events_ >= static_cast<int>(frame_.events.size())) return false;
    const Event& event = frame_.events[static_cast<size_t>(events_)];
    if (!is_store(event.op) || event.width != insn.width || event.region != base.kind) return false;
    if (insn.op == Op::store_imm && event.op != Op::store_imm && !rules.store_immediate) return false;
    step.kind = Step::Kind::shared_store;
    step.event = static_cast<uint8_t>(events_++);
    return true;
  }
  step.kind = Step::Kind::store;
  if (rules.is_stack) return store_stack(insn, base, state);
  return !value.is_pointer();
}

bool Walk::store_stack(const Insn& insn, const Type& base, StaticState& state) {
  const int at = base.off + insn.off;
  const int slot = at / 8;
  const unsigned bytes = ((1U << (insn.width / 8)) - 1U) << (at % 8);
  // A narrow store over a spilled pointer leaves bytes of an address that no later load may see as a number.
  const bool spill = insn.op == Op::store && insn.width == 64 && state.reg[insn.src].is_pointer();
  if (!spill && state.slot[slot].is_pointer() && insn.width != 64) state.initialised[slot] = 0;
  state.slot[slot] = spill ? state.reg[insn.src] : number;
  state.initialised[slot] = static_cast<uint8_t>(state.initialised[slot] | bytes);
  return true;
}

}  // namespace k2
