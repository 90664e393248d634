"""Small changes to raw programs: fields, bits, opcodes, constants; instructions swapped, removed or repeated.

All choices come from one `random.Random`.  The length stays, so that jumps keep their meaning: what is removed becomes
a jump to the next instruction, what is repeated overwrites its neighbour.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from benchmarks.model.slots import SlotProgram
from verifier_model.bpf.insn import SLOT_BYTES
from verifier_model.bpf.isa import BY_CODE

_NO_OP: Final = bytes.fromhex("0500000000000000")
_WIDE: Final = 0x18
_CODES: Final = tuple(sorted(BY_CODE))
_TELLING: Final = (0, 1, -1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256, 511, 512, 4095, 65535)
_LIMITS: Final = (1 << 16, (1 << 29) - 1, 1 << 29, (1 << 31) - 1, -(1 << 31), -8, -16, -512, -520)
_CLASSES: Final = 7


def _codes_alike(code: int) -> tuple[int, ...]:
    return tuple(other for other in _CODES if other & _CLASSES == code & _CLASSES)


_ALIKE: Final = {code: _codes_alike(code) for code in range(256)}


def _bit(rng: random.Random, slot: bytearray) -> None:
    at = rng.randrange(64)
    slot[at // 8] ^= 1 << at % 8


def _code(rng: random.Random, slot: bytearray) -> None:
    slot[0] = rng.choice(_ALIKE[slot[0]] or _CODES) if rng.random() < 0.8 else rng.choice(_CODES)


def _dst(rng: random.Random, slot: bytearray) -> None:
    slot[1] = slot[1] & 0xF0 | rng.randrange(11)


def _src(rng: random.Random, slot: bytearray) -> None:
    slot[1] = slot[1] & 0x0F | rng.randrange(11) << 4


def _off(rng: random.Random, slot: bytearray) -> None:
    (old,) = struct.unpack_from("<h", slot, 2)
    new = old + rng.choice((-16, -8, -4, -2, -1, 1, 2, 4, 8, 16)) if rng.random() < 0.7 else rng.randrange(-512, 512)
    struct.pack_into("<h", slot, 2, max(-32768, min(32767, new)))


def _imm(rng: random.Random, slot: bytearray) -> None:
    (old,) = struct.unpack_from("<i", slot, 4)
    kind = rng.random()
    if kind < 0.4:
        new = old + rng.choice((-8, -4, -2, -1, 1, 2, 4, 8))
    elif kind < 0.8:
        new = rng.choice(_TELLING + _LIMITS)
    else:
        new = old * rng.choice((2, 3, -1)) ^ rng.getrandbits(1)
    struct.pack_into("<i", slot, 4, (new + (1 << 31)) % (1 << 32) - (1 << 31))


_FIELDS: Final[tuple[Callable[[random.Random, bytearray], None], ...]] = (_bit, _code, _dst, _src, _off, _imm)


def _starts(insns: bytes) -> list[int]:
    """Slots where instructions start."""
    found, at = [], 0
    while at < len(insns) // SLOT_BYTES:
        found.append(at)
        at += 2 if insns[at * SLOT_BYTES] == _WIDE else 1
    return found


def mutant(rng: random.Random, program: SlotProgram, changes: int) -> SlotProgram:
    """The program with `changes` small changes; it may come out equal to the original."""
    insns, maps = bytearray(program.insns), dict(program.maps)
    for _ in range(changes):
        starts = _starts(bytes(insns))
        at = rng.choice(starts)
        kind = rng.randrange(10)
        here = slice(at * SLOT_BYTES, (at + 1) * SLOT_BYTES)
        if kind < 7:
            slot = insns[here]
            rng.choice(_FIELDS)(rng, slot)
            insns[here] = slot
            continue
        width = 2 if insns[at * SLOT_BYTES] == _WIDE else 1
        if kind == 7:
            for one in range(at, min(at + width, len(insns) // SLOT_BYTES)):
                insns[one * SLOT_BYTES : (one + 1) * SLOT_BYTES] = _NO_OP
                maps.pop(one, None)
            continue
        others = [one for one in starts if insns[one * SLOT_BYTES] != _WIDE]
        if width == 2 or not others:
            continue
        other = rng.choice(others) if kind == 8 else min(others, key=lambda one: (abs(one - at - 1), one))
        there = slice(other * SLOT_BYTES, (other + 1) * SLOT_BYTES)
        old = bytes(insns[there])
        insns[there] = insns[here]
        if kind == 8:
            insns[here] = old
    return replace(program, insns=bytes(insns), maps=maps)


def minimised(program: SlotProgram, is_wrong: Callable[[SlotProgram], bool]) -> SlotProgram:
    """The program with every instruction removed (made a jump to the next) that is not needed to stay wrong."""
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for at in _starts(program.insns):
            width = 2 if program.insns[at * SLOT_BYTES] == _WIDE else 1
            insns = bytearray(program.insns)
            if insns[at * SLOT_BYTES : (at + 1) * SLOT_BYTES] == _NO_OP:
                continue
            insns[at * SLOT_BYTES : (at + width) * SLOT_BYTES] = _NO_OP * width
            maps = {slot: row for slot, row in program.maps.items() if slot != at}
            smaller = replace(program, insns=bytes(insns), maps=maps)
            if is_wrong(smaller):
                program, is_smaller = smaller, True
    return program
