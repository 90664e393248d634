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
