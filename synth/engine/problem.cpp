#include "problem.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

namespace k2 {

void reset_registers(Batch& batch) {
  std::memcpy(batch.reg, batch.initial, sizeof batch.reg);
  batch.event_error = 0;
}

void reset_memory(Batch& batch) {
  for (RegionLanes& region : batch.regions) {
    if (region.dirty_begin >= region.dirty_end) continue;
    // Whole words: copying eight bytes at once needs no call.
    for (size_t at = region.dirty_begin & ~7U; at < region.dirty_end; at += 8) {
      uint8_t* image = region.image.data() + at;
      const uint8_t* initial = region.initial.data() + at;
      for (size_t l = 0; l < lane_count; ++l) std::memcpy(image + l * region.stride, initial + l * region.stride, 8);
    }
    region.dirty_begin = UINT32_MAX;
    region.dirty_end = 0;
  }
}

Evaluator::Evaluator(Problem problem, const Lanes& lanes) : problem_(std::move(problem)), lanes_(&lanes) {
  for (const RegionRules& rules : problem_.frame.regions) {
    is_stack_[memory_masks_.size()] = rules.is_stack;
    memory_masks_.push_back(rules.is_stack ? problem_.stack_demand.data() : nullptr);
  }
}

std::string Evaluator::prepare() {
  if (problem_.original.size() > max_length) return "the window is too long";
  if (problem_.has_branches) return prepare_region();
  Walk walk(problem_.frame);
  exit_ = problem_.entry;
  std::vector<Step> steps(problem_.original.size());
  const int count = walk.run(problem_.original.data(), static_cast<int>(problem_.original.size()), exit_, steps.data());
  if (count < 0) return "the window itself breaks the rules of the static walk";
  if (walk.events() != static_cast<int>(problem_.frame.events.size()))
    return "the window has fewer shared accesses than told";
  steps.resize(static_cast<size_t>(count));
  for (Batch& batch : problem_.batches) {
    std::string why = record(batch, steps);
    if (!why.empty()) return why;
  }
  return "";
}

std::string Evaluator::record(Batch& batch, const std::vector<Step>& steps) {
  for (RegionLanes& region : batch.regions) {
    region.image = region.initial;
    region.least_limit = *std::min_element(std::begin(region.limit.lane), std::end(region.limit.lane));
  }
  reset_registers(batch);
  for (const Step& step : steps) {
    if (step.kind == Step::Kind::shared_load || step.kind == Step::Kind::shared_store) {
      const Insn& insn = step.insn;
      const bool is_load_event = step.kind == Step::Kind::shared_load;
      EventLanes& event = batch.events[step.event];
      const Row& base = batch.reg[is_load_event ? insn.src : insn.dst];
      for (int l = 0; l < lane_count; ++l) {
        event.address.lane[l] = base.lane[l] + static_cast<uint64_t>(static_cast<int64_t>(insn.off));
        if (is_load_event) continue;
        event.value.lane[l] = insn.op == Op::store ? batch.reg[insn.src].lane[l] : static_cast<uint64_t>(insn.imm);
      }
    }
    if (!lanes_->run(&step, 1, batch, problem_.big_endian))
      return "the window leaves its memory regions on a test input";
  }
  std::memcpy(batch.expected, batch.reg, sizeof batch.reg);
  for (RegionLanes& region : batch.regions) {
    region.expected = region.image;
    region.expected_begin = region.dirty_begin;
    region.expected_end = region.dirty_end;
  }
  reset_memory(batch);
  reset_registers(batch);
  return "";
}

bool Evaluator::exit_types_fit(const StaticState& state) const {
  return types_fit(state, exit_, problem_.register_demand.data(), problem_.stack_demand.data());
}

bool Evaluator::types_fit(const StaticState& state, const StaticState& was, const uint64_t* registers,
                          const uint8_t* stack) const {
  for (size_t r = 0; r < register_count; ++r) {
    if (registers[r] == 0 || was.reg[r].kind == Type::uninit) continue;
    if (state.reg[r].kind != was.reg[r].kind) return false;
  }
  for (size_t s = 0; s < stack_slots; ++s) {
    unsigned wanted = 0;
    for (size_t b = 0; b < 8; ++b) wanted |= (stack[8 * s + b] != 0 ? 1U : 0U) << b;
    if (wanted == 0) continue;
    if ((was.initialised[s] & wanted & ~static_cast<unsigned>(state.initialised[s])) != 0) return false;
    const bool was_pointer = was.slot[s].is_pointer();
    if (was_pointer != state.slot[s].is_pointer() || (was_pointer && was.slot[s].kind != state.slot[s].kind))
      return false;
  }
  return true;
}

// ---- programs with branches ----

const uint8_t* Evaluator::stack_mask(size_t exit) const {
  return exit == 0 ? problem_.stack_demand.data() : problem_.exits[exit - 1].stack.data();
}

bool Evaluator::leaves_fit(const Arrivals& arrivals) const {
  for (size_t e = 0; e <= problem_.exits.size(); ++e) {
    const Leaving& leaving = arrivals.exits[e];
    if (!leaving.reached) continue;
    if (!leavings_[e].reached || leaving.events != leavings_[e].events) return false;
    const uint64_t* registers = e == 0 ? problem_.register_demand.data() : problem_.exits[e - 1].registers.data();
    if (!types_fit(leaving.state, leavings_[e].state, registers, stack_mask(e))) return false;
  }
  return true;
}

std::string Evaluator::prepare_region() {
  Walk walk(problem_.frame);
  std::vector<Step> steps(problem_.original.size());
  const int count =
      walk.run_region(problem_.original.data(), static_cast<int>(problem_.original.size()),
                      static_cast<int>(problem_.exits.size()) + 1, problem_.entry, steps.data(), *arrivals_);
  if (count < 0) return "the window itself breaks the rules of the static walk";
  steps.resize(static_cast<size_t>(count));
  leavings_ = arrivals_->exits;
  for (Batch& batch : problem_.batches) {
    std::string why = record_region(batch, steps);
    if (!why.empty()) return why;
  }
  return "";
}

std::string Evaluator::record_region(Batch& batch, const std::vector<Step>& steps) {
  for (RegionLanes& region : batch.regions) {
    region.image = region.initial;
    region.least_limit = *std::min_element(std::begin(region.limit.lane), std::end(region.limit.lane));
  }
  reset_registers(batch);
  const int length = static_cast<int>(problem_.original.size());
  if (!lanes_->run_region(steps.data(), static_cast<int>(steps.size()), length, batch, problem_.big_endian, true))
    return "the window leaves its memory regions on a test input";
  const auto end = static_cast<uint64_t>(length);
  for (int l = 0; l < lane_count; ++l) {
    const uint64_t exit = batch.resume.lane[l] > end ? batch.resume.lane[l] - end : 0;
    batch.exit.lane[l] = exit;
    for (size_t r = 0; r < register_count; ++r)
      batch.demand[r].lane[l] = exit == 0 ? problem_.register_demand[r] : problem_.exits[exit - 1].registers[r];
  }
  std::memcpy(batch.expected, batch.reg, sizeof batch.reg);
  for (RegionLanes& region : batch.regions) {
    region.expected = region.image;
    region.expected_begin = region.dirty_begin;
    region.expected_end = region.dirty_end;
  }
  reset_memory(batch);
  reset_registers(batch);
  return "";
}

uint64_t Evaluator::region_errors(const Insn* candidate, int count, uint64_t bound) {
  Step steps[max_length];
  Walk walk(problem_.frame);
  const int length =
      walk.run_region(candidate, count, static_cast<int>(problem_.exits.size()) + 1, problem_.entry, steps, *arrivals_);
  if (length < 0 || !leaves_fit(*arrivals_)) return unsafe;
  ++runs_;
  const uint8_t* masks[max_exits];
  for (size_t e = 0; e <= problem_.exits.size(); ++e) masks[e] = stack_mask(e);
  uint64_t bits = 0;
  for (Batch& batch : problem_.batches) {
    const bool ran = lanes_->run_region(steps, length, count, batch, problem_.big_endian, false);
    if (ran) bits += lanes_->region_difference(batch, count, is_stack_, masks, bound - bits);
    reset_memory(batch);
    reset_registers(batch);
    if (!ran) return unsafe;
    if (bits > bound) break;
  }
  return bits;
}

uint64_t Evaluator::errors(const Insn* candidate, int count, uint64_t bound) {
  if (problem_.has_branches) return region_errors(candidate, count, bound);
  Step steps[max_length];
  StaticState state = problem_.entry;
  Walk walk(problem_.frame);
  const int length = walk.run(candidate, count, state, steps);
  if (length < 0 || walk.events() != static_cast<int>(problem_.frame.events.size()) || !exit_types_fit(state))
    return unsafe;
  ++runs_;
  unsigned written = 0;
  for (int i = 0; i < length; ++i) written |= writes_register(steps[i].insn.op) ? 1U << steps[i].insn.dst : 0U;
  uint64_t bits = 0;
  for (Batch& batch : problem_.batches) {
    const bool ran = lanes_->run(steps, length, batch, problem_.big_endian);
    if (ran) bits += lanes_->difference(batch, problem_.register_demand.data(), memory_masks_.data(), bound - bits);
    reset_memory(batch);
    batch.event_error = 0;
    for (int r = 0; r < register_count; ++r) {
      if ((written >> r & 1U) != 0) batch.reg[r] = batch.initial[r];
    }
    if (!ran) return unsafe;
    if (bits > bound) break;
  }
  return bits;
}

uint64_t Evaluator::slots(const Insn* candidate, int count) const {
  uint64_t sum = 0;
  for (int i = 0; i < count; ++i) sum += static_cast<uint64_t>(slots_of(candidate[i].op));
  return sum;
}

uint64_t Evaluator::picoseconds(const Insn* candidate, int count) const {
  uint64_t sum = 0;
  for (int i = 0; i < count; ++i) sum += problem_.picoseconds[shape_of(candidate[i])];
  return sum;
}

}  // namespace k2
