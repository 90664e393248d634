"""Who looks at the upper half of a 32-bit compare-and-exchange's result.

The instruction zero-extends r0 (RFC 9669, section 5.3), but x86 leaves the upper half alone where the exchange takes
place, and kernels therefore put a `w0 = w0` behind it, only where their verifier saw a 64-bit use of that r0.  Since
liveness is computed ahead of the walk (kernel/bpf/verifier.c of 6.18), a use behind a point where the walk was cut
short by an equal state is not seen, and the upper half stays what it was: measured on 6.18.44, see
tests/native/test_exchange_halves.py.  Whether that happens depends on everything around it, so code that looks there
is nobody's to change: any rewrite near it could change what runs.
"""

from __future__ import annotations

from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.liveness import liveness, syntactic_access
from verifier_model.bpf.unit import Function, Point

UNDEFINED_HALF: Final = (
    "the upper half of a 32-bit compare-and-exchange's result is used, which some kernels leave undefined"
)
_UPPER: Final = 0xFFFFFFFF << 32


def is_narrow_exchange(insn: Insn) -> bool:
    """Is it a compare-and-exchange of 32 bits?"""
    return insn.row.op == "cmpxchg" and insn.row.size == 4


def used_upper_half(function: Function) -> Point | None:
    """The first 32-bit compare-and-exchange of whose result bits 32 to 63 may be looked at; None where there is none.

    Raises ValueError where `flow.successors` does.
    """
    points = [point for point, insn in function.insns() if is_narrow_exchange(insn)]
    if not points:
        return None
    live = liveness(function, lambda point: syntactic_access(function.block(point.label).insns[point.at]))
    return next((point for point in points if live.after(point).regs[0] & _UPPER), None)
