// Moves that change several instructions at once, so that what a program computes has a chance to stay.
#pragma once

#include "domain.h"
#include "operation.h"
#include "random.h"

namespace k2 {

// Takes one instruction with an immediate away and works it into the constants that its register may hold.
bool fold_constant(Insn* program, int size, Random& random);
// Takes one copy of a register away; who read the copy reads the register.
bool propagate_copy(Insn* program, int size, Random& random);
// Another register for one result: its writer and all its readers up to the next writer.
bool rename_result(const Domain& domain, Insn* program, int size, Random& random);

}  // namespace k2
