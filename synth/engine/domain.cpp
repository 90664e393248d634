#include "domain.h"

#include <algorithm>

namespace k2 {
namespace {

template <class T>
const T& pick(const std::vector<T>& from, Random& random) {
  return from[random.below(static_cast<uint32_t>(from.size()))];
}

bool is_usable_immediate(const Insn& shape, int64_t imm) {
  if (is_shift(shape.op)) return imm > 0 && imm < shape.width;
  return !is_division(shape.op) || imm != 0;
}

int64_t draw_immediate(const Domain& domain, Random& random, const Insn& shape) {
  for (int attempt = 0; attempt < 4; ++attempt) {
    const int64_t imm = pick(domain.immediates, random);
    if (is_usable_immediate(shape, imm)) return imm;
  }
  return is_shift(shape.op) ? 1 + static_cast<int64_t>(random.below(shape.width - 1U)) : 1;
}

bool has_immediate(const Insn& insn) {
  return insn.op == Op::store_imm || (is_alu(insn.op) && insn.op <= Op::arsh && !insn.from_reg) ||
         (is_conditional(insn.op) && !insn.from_reg);
}

void fill(const Domain& domain, Random& random, Insn& insn) {
  if (is_branch(insn.op)) {
    insn.dst = pick(domain.readable, random);
    if (insn.from_reg) insn.src = pick(domain.readable, random);
    insn.off = pick(domain.targets, random);
  } else if (is_store(insn.op)) {
    insn.dst = pick(domain.readable, random);
    if (insn.op == Op::store) insn.src = pick(domain.readable, random);
    insn.off = pick(domain.offsets, random);
  } else {
    insn.dst = pick(domain.writable, random);
    if (reads_src(insn)) insn.src = pick(domain.readable, random);
    if (is_load(insn.op)) insn.off = pick(domain.offsets, random);
  }
  if (has_immediate(insn)) insn.imm = draw_immediate(domain, random, insn);
}

void expand_register(const Domain& domain, Insn insn, std::vector<Insn>& out) {
  if (is_load(insn.op)) {
    for (const uint8_t base : domain.readable) {
      insn.src = base;
      for (const int16_t off : domain.offsets) {
        insn.off = off;
        out.push_back(insn);
      }
    }
  } else if (insn.from_reg) {
    for (const uint8_t src : domain.readable) {
      insn.src = src;
      // A register moved to itself is how a compiler barrier looks; nobody needs it.
      if (insn.op != Op::mov || insn.width != 64 || src != insn.dst) out.push_back(insn);
    }
  } else if (has_immediate(insn)) {
    for (const int64_t imm : domain.immediates) {
      insn.imm = imm;
      if (is_usable_immediate(insn, imm)) out.push_back(insn);
    }
  } else {
    out.push_back(insn);
  }
}

void expand_store(const Domain& domain, Insn insn, std::vector<Insn>& out) {
  for (const uint8_t base : domain.readable) {
    insn.dst = base;
    for (const int16_t off : domain.offsets) {
      insn.off = off;
      if (insn.op == Op::store) {
        for (const uint8_t src : domain.readable) {
          insn.src = src;
          out.push_back(insn);
        }
      } else {
        for (const int64_t imm : domain.immediates) {
          insn.imm = imm;
          out.push_back(insn);
        }
      }
    }
  }
}

}  // namespace

std::vector<Insn> all_instructions(const Domain& domain) {
  std::vector<Insn> out;
  for (const std::vector<Insn>* shapes : {&domain.alu, &domain.memory, &domain.wide}) {
    for (Insn insn : *shapes) {
      if (is_store(insn.op)) {
        expand_store(domain, insn, out);
        continue;
      }
      for (const uint8_t dst : domain.writable) {
        insn.dst = dst;
        expand_register(domain, insn, out);
      }
    }
  }
  return out;
}

Insn draw(const Domain& domain, Random& random) {
  if (!domain.branches.empty() && random.below(12) == 0) {
    Insn branch = pick(domain.branches, random);
    fill(domain, random, branch);
    return branch;
  }
  const bool memory = !domain.memory.empty() && random.below(3) == 0;
  const bool wide = !memory && !domain.wide.empty() && random.below(16) == 0;
  Insn insn = pick(memory ? domain.memory : wide ? domain.wide : domain.alu, random);
  fill(domain, random, insn);
  return insn;
}

namespace {

// Another register, operand or condition; the target stays.
void redraw_branch(const Domain& domain, Random& random, Insn& insn) {
  if (domain.branches.empty()) return;
  Insn other = random.below(2) == 0 ? pick(domain.branches, random) : insn;
  const bool is_same = other.op == insn.op && other.width == insn.width && other.from_reg == insn.from_reg;
  const bool same_operand = other.from_reg == insn.from_reg;
  const Insn old = insn;
  fill(domain, random, other);
  insn.op = other.op;
  insn.width = other.width;
  insn.from_reg = other.from_reg;
  if (!is_same && same_operand) return;
  if (is_same && random.below(2) == 0) {
    insn.dst = other.dst;
    return;
  }
  insn.src = other.from_reg ? other.src : uint8_t{0};
  insn.imm = other.from_reg ? int64_t{0} : other.imm;
  insn.dst = old.dst;
}

}  // namespace

void redraw_operand(const Domain& domain, Random& random, Insn& insn) {
  if (insn.op == Op::nop || insn.op == Op::ja) return;
  if (is_branch(insn.op)) return redraw_branch(domain, random, insn);
  Insn other = insn;
  fill(domain, random, other);
  const bool memory = is_load(insn.op) || is_store(insn.op);
  switch (random.below(memory ? 3 : 2)) {
    case 0: insn.dst = other.dst; break;
    case 1:
      insn.src = other.src;
      if (insn.op != Op::lddw && insn.op != Op::symbol) insn.imm = other.imm;
      break;
    default: insn.off = other.off; break;
  }
}

bool redraw_access(const Domain& domain, Random& random, Insn& insn) {
  if (domain.memory.empty()) return false;
  Insn shape = pick(domain.memory, random);
  for (int attempt = 0; attempt < 8 && is_load(shape.op) != is_load(insn.op); ++attempt)
    shape = pick(domain.memory, random);
  if (is_load(shape.op) != is_load(insn.op)) return false;
  Insn other = shape;
  fill(domain, random, other);
  const bool same_operand = shape.op == insn.op;
  insn.op = shape.op;
  insn.width = shape.width;
  insn.from_reg = shape.from_reg;
  if (!same_operand || random.below(2) == 0) {
    if (is_load(insn.op)) return true;
    insn.src = other.src;
    insn.imm = other.imm;
  }
  return true;
}

}  // namespace k2
