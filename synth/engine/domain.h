// What a proposal may be made of.
#pragma once

#include <vector>

#include "operation.h"
#include "random.h"

namespace k2 {

struct Domain {
  std::vector<Insn> alu;     // shapes: operation, width, kind of second operand
  std::vector<Insn> memory;  // shapes of loads and stores
  std::vector<Insn> wide;    // whole instructions but for dst: constants and symbols of the window
  std::vector<int64_t> immediates;
  std::vector<int16_t> offsets;
  std::vector<uint8_t> writable;  // registers that may be written
  std::vector<uint8_t> readable;  // registers that may be read
  std::vector<Insn> branches;     // shapes of conditional branches
  std::vector<int16_t> targets;   // where they may lead
};

// Every instruction of the domain, in a fixed order: shape by shape as the domain lists them.
std::vector<Insn> all_instructions(const Domain& domain);

// One random instruction of the domain.
Insn draw(const Domain& domain, Random& random);
// A random field of `insn` drawn anew.
void redraw_operand(const Domain& domain, Random& random, Insn& insn);
// Another width, or the other kind of second operand, for a load or store; false when there is none in the domain.
bool redraw_access(const Domain& domain, Random& random, Insn& insn);

}  // namespace k2
