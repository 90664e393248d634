// What a candidate is made of: the straight-line instructions of verifier_model/bpf/isa.py in a form that is quick to
// run.
//
// engine_link.py translates by the names below, which are the `op` names of the rows; tests/engine holds every row of
// the table against verifier_model/bpf/concrete.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace k2 {

enum class Op : uint8_t {
  nop,
  add,
  sub,
  mul,
  div,
  sdiv,
  or_,
  and_,
  lsh,
  rsh,
  mod,
  smod,
  xor_,
  mov,
  arsh,
  neg,
  movsx8,
  movsx16,
  movsx32,
  le,
  be,
  bswap,
  load,
  load_signed,
  store,
  store_imm,
  lddw,    // a 64-bit constant in `imm`
  symbol,  // a wide load of an address that the loader fills in: `imm` is the index of its column of test values
  ja,      // branches: `off` is where to, see Problem
  jeq,
  jne,
  jset,
  jgt,
  jge,
  jlt,
  jle,
  jsgt,
  jsge,
  jslt,
  jsle,
};

inline constexpr std::array<const char*, 40> op_names = {
    "nop", "add",   "sub",  "mul",         "div",   "sdiv",      "or",     "and",     "lsh",     "rsh",
    "mod", "smod",  "xor",  "mov",         "arsh",  "neg",       "movsx8", "movsx16", "movsx32", "le",
    "be",  "bswap", "load", "load_signed", "store", "store_imm", "lddw",   "symbol",  "ja",      "jeq",
    "jne", "jset",  "jgt",  "jge",         "jlt",   "jle",       "jsgt",   "jsge",    "jslt",    "jsle"};

inline constexpr int register_count = 11;
inline constexpr int frame_pointer = 10;

// `width` is in bits: of the operands, of the access, of the swapped part.  `imm` is sign-extended to 64 bits.
struct Insn {
  Op op = Op::nop;
  uint8_t width = 64;
  bool from_reg = false;  // is the second operand register `src` (else `imm`)?
  uint8_t dst = 0;
  uint8_t src = 0;
  int16_t off = 0;
  int64_t imm = 0;

  bool operator==(const Insn&) const = default;
};

inline bool is_alu(Op op) { return op >= Op::add && op <= Op::bswap; }
inline bool is_load(Op op) { return op == Op::load || op == Op::load_signed; }
inline bool is_store(Op op) { return op == Op::store || op == Op::store_imm; }
inline bool is_branch(Op op) { return op >= Op::ja; }
inline bool is_conditional(Op op) { return op > Op::ja; }
inline bool is_shift(Op op) { return op == Op::lsh || op == Op::rsh || op == Op::arsh; }
inline bool is_division(Op op) { return op == Op::div || op == Op::sdiv || op == Op::mod || op == Op::smod; }
// Does the result not depend on the old value of dst?
inline bool is_move(Op op) {
  return op == Op::mov || op == Op::movsx8 || op == Op::movsx16 || op == Op::movsx32 || op == Op::lddw ||
         op == Op::symbol || is_load(op);
}
inline bool writes_register(Op op) { return op != Op::nop && !is_store(op) && !is_branch(op); }
inline bool reads_dst(Op op) { return op != Op::nop && op != Op::ja && !is_move(op); }
inline bool reads_src(const Insn& insn) {
  return is_load(insn.op) || insn.op == Op::store || ((is_alu(insn.op) || is_branch(insn.op)) && insn.from_reg);
}
inline int slots_of(Op op) { return op == Op::nop ? 0 : op == Op::lddw || op == Op::symbol ? 2 : 1; }

// Index of a shape (operation, width, operand) in tables of costs.
inline constexpr size_t shapes_per_op = 8;
inline constexpr size_t shape_count = op_names.size() * shapes_per_op;
inline size_t shape_of(const Insn& insn) {
  const size_t width = insn.width == 64 ? 3 : insn.width == 32 ? 2 : insn.width == 16 ? 1 : 0;
  return static_cast<size_t>(insn.op) * shapes_per_op + width * 2 + (insn.from_reg ? 1 : 0);
}

}  // namespace k2
