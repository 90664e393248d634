#include "compound.h"

#include <optional>

namespace k2 {
namespace {

// What the instruction makes of a constant; nothing for operations that are not worth a try.
std::optional<uint64_t> folded(const Insn& insn, uint64_t value) {
  const uint64_t cut = insn.width == 64 ? ~uint64_t{0} : 0xFFFFFFFFULL;
  const uint64_t a = value & cut;
  const uint64_t b = static_cast<uint64_t>(insn.imm) & cut;
  const uint64_t count = b & (insn.width - 1U);
  switch (insn.op) {
    case Op::add: return (a + b) & cut;
    case Op::sub: return (a - b) & cut;
    case Op::mul: return (a * b) & cut;
    case Op::or_: return a | b;
    case Op::and_: return a & b;
    case Op::xor_: return a ^ b;
    case Op::lsh: return (a << count) & cut;
    case Op::rsh: return a >> count;
    default: return std::nullopt;
  }
}

bool is_constant(const Insn& insn) { return insn.op == Op::mov && !insn.from_reg; }

// The value as the immediate of a 64-bit or a 32-bit move that gives it.
bool set_constant(Insn& insn, uint64_t value) {
  const auto narrow = static_cast<int32_t>(value & 0xFFFFFFFFULL);
  if (insn.width == 64 && static_cast<uint64_t>(static_cast<int64_t>(narrow)) != value) return false;
  if (insn.width == 32 && value >> 32 != 0) return false;
  insn.imm = narrow;
  return true;
}

void read_instead(Insn& insn, uint8_t from, uint8_t to) {
  if (reads_src(insn) && insn.src == from) insn.src = to;
  // The base of a store and the left side of a branch are read alone.
  if ((is_store(insn.op) || is_conditional(insn.op)) && insn.dst == from) insn.dst = to;
}

int random_index(int size, Random& random) { return static_cast<int>(random.below(static_cast<uint32_t>(size))); }

}  // namespace

bool fold_constant(Insn* program, int size, Random& random) {
  const int at = random_index(size, random);
  const Insn insn = program[at];
  if (!is_alu(insn.op) || insn.from_reg || insn.op == Op::mov || insn.op > Op::arsh) return false;
  bool found = false;
  for (int i = at; i-- > 0;) {
    Insn& other = program[i];
    if (other.op == Op::nop || other.dst != insn.dst || !writes_register(other.op)) continue;
    if (!is_constant(other)) break;
    const uint64_t cut = other.width == 64 ? ~uint64_t{0} : 0xFFFFFFFFULL;
    const std::optional<uint64_t> value = folded(insn, static_cast<uint64_t>(other.imm) & cut);
    if (!value || !set_constant(other, *value)) return false;
    found = true;
  }
  if (found) program[at] = Insn{};
  return found;
}

bool propagate_copy(Insn* program, int size, Random& random) {
  const int at = random_index(size, random);
  const Insn copy = program[at];
  if (copy.op != Op::mov || !copy.from_reg || copy.dst == copy.src) return false;
  program[at] = Insn{};
  for (int i = at + 1; i < size; ++i) {
    Insn& insn = program[i];
    read_instead(insn, copy.dst, copy.src);
    if (insn.op == Op::nop || !writes_register(insn.op) || insn.dst != copy.dst) continue;
    if (!reads_dst(insn.op)) break;
    insn.dst = copy.src;
  }
  return true;
}

bool rename_result(const Domain& domain, Insn* program, int size, Random& random) {
  const int at = random_index(size, random);
  const Insn first = program[at];
  if (first.op == Op::nop || !writes_register(first.op)) return false;
  const uint8_t from = first.dst;
  const uint8_t to = domain.writable[random.below(static_cast<uint32_t>(domain.writable.size()))];
  if (from == to) return false;
  program[at].dst = to;
  for (int i = at + 1; i < size; ++i) {
    Insn& insn = program[i];
    read_instead(insn, from, to);
    if (insn.op == Op::nop || !writes_register(insn.op) || insn.dst != from) continue;
    if (!reads_dst(insn.op)) break;
    insn.dst = to;
  }
  return true;
}

}  // namespace k2
