"""Time, random numbers and CPU numbers replaced by reads of a seeded map, so that two objects can be run alike.

At load, a call of such a helper becomes a call of a small function appended behind the program's code, which reads (and
for time and random numbers advances) a 64-bit state in an array map.  No instruction moves, so nothing else changes.
Runs with equal states and equal sequences of calls see equal values.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from verifier_model.bpf.insn import ByteOffset, SlotOffset, encode, make, read_slot
from verifier_model.bpf.isa import BY_NAME, CallTarget
from verifier_model.contracts.helpers import BY_NAME as HELPER
from verifier_model.kernel.maps import KernelMap

# Knuth's MMIX generator; time takes a slice that grows, so that differences of times stay meaningful.
_MULTIPLIER: Final = 6364136223846793005
_INCREMENT: Final = 1442695040888963407
_ARRAY_TYPE: Final = 2


@dataclass(frozen=True, slots=True)
class _Source:
    """`kind`: "time" (grows by less than 2**21 a call), "number" (32 random bits) or "fixed" (one value per input)."""

    helper: str
    kind: str


_SOURCES: Final = (
    _Source("ktime_get_ns", "time"),
    _Source("ktime_get_boot_ns", "time"),
    _Source("ktime_get_coarse_ns", "time"),
    _Source("ktime_get_tai_ns", "time"),
    _Source("jiffies64", "time"),
    _Source("get_prandom_u32", "number"),
    _Source("get_smp_processor_id", "fixed"),
    _Source("get_numa_node_id", "fixed"),
)
_BY_ID: Final = {HELPER[source.helper].id: source for source in _SOURCES}
# All kinds but "fixed" step one generator at byte 0; a clock and the fixed number have words of their own.
_GENERATOR, _CLOCK, _FIXED, _VALUE_BYTES = 0, 8, 16, 24


class SeededMap:
    """The map behind the replaced helpers of one object."""

    def __init__(self) -> None:
        self.map = KernelMap.create(_ARRAY_TYPE, 4, _VALUE_BYTES, 1, name="k2_seed")

    def seed(self, number: int, time: int, cpu: int) -> None:
        """The state before one input: generator, clock in nanoseconds, CPU number."""
        self.map.update(bytes(4), struct.pack("=QQQ", number & (1 << 64) - 1, time & (1 << 64) - 1, cpu))

    def rewrite(self, name: str, insns: bytes) -> bytes:
        """The program with its time, random and CPU calls going to appended functions; unchanged without such calls."""
        code = bytearray(insns)
        starts: dict[str, int] = {}
        tail = bytearray()
        for at in range(0, len(insns), 8):
            slot = read_slot(insns, ByteOffset(at), "little")
            if slot.code != BY_NAME["call_helper"].code or slot.src != CallTarget.HELPER or slot.imm not in _BY_ID:
                continue
            kind = _BY_ID[slot.imm].kind
            if kind not in starts:
                starts[kind] = len(insns) + len(tail)
                tail += self._function(kind)
            distance = SlotOffset((starts[kind] - at) // 8 - 1)
            code[at : at + 8] = encode(make("call_local"), "little", distance)
        return bytes(code + tail)

    def _function(self, kind: str) -> bytes:
        address = self.map.fd  # low half: the map's descriptor; high half: the offset in its value
        if kind == "fixed":
            insns = [make("lddw_map_value", 1, imm=address | _FIXED << 32), make("ldx_dw", 0, 1), make("exit")]
            return b"".join(encode(insn, "little") for insn in insns)
        insns = [
            make("lddw_map_value", 1, imm=address),
            make("ldx_dw", 0, 1, off=_GENERATOR),
            make("lddw_constant", 2, imm=_MULTIPLIER),
            make("mul64_reg", 0, 2),
            make("lddw_constant", 2, imm=_INCREMENT),
            make("add64_reg", 0, 2),
            make("stx_dw", 1, 0, off=_GENERATOR),
        ]
        if kind == "number":
            insns += [make("rsh64_imm", 0, imm=32), make("exit")]
        else:
            insns += [
                make("rsh64_imm", 0, imm=43),
                make("ldx_dw", 2, 1, off=_CLOCK),
                make("add64_reg", 0, 2),
                make("stx_dw", 1, 0, off=_CLOCK),
                make("exit"),
            ]
        return b"".join(encode(insn, "little") for insn in insns)

    def close(self) -> None:
        self.map.close()
