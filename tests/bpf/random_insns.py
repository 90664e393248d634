"""Random operands for a row of the table, shared by the tests of this room."""

from __future__ import annotations

import random

from verifier_model.bpf.insn import Insn, label
from verifier_model.bpf.isa import Kind, Row

INTERESTING = (0, 1, -1, 7, 255, 256, -(1 << 31), (1 << 31) - 1, 0x7FFF, -0x8000)


def random_insn(row: Row, rng: random.Random, target: str = "L1") -> Insn:
    """An instruction of that row; branches go to `target`."""
    uses = row.uses
    imm = 0
    if "imm" in uses:
        imm = rng.choice((*INTERESTING, rng.randrange(-(1 << 31), 1 << 31)))
    if row.kind is Kind.LOAD_WIDE:
        imm = rng.choice((0, 1, (1 << 64) - 1, 1 << 63, 1 << 32, rng.randrange(1 << 64)))
    has_off = "off" in uses or row.name == "call_kfunc"
    return Insn(
        row,
        dst=rng.randrange(11) if "dst" in uses else 0,
        src=rng.randrange(11) if "src" in uses else 0,
        off=rng.choice((0, 4, -8, -(1 << 15), (1 << 15) - 1, rng.randrange(-(1 << 15), 1 << 15))) if has_off else 0,
        imm=imm,
        ref=label(target) if "target" in uses else None,
    )
