"""Wrong rewrites on purpose: one constant of one instruction changed in an object, behind every prover's back."""

from __future__ import annotations

import io
from collections.abc import Iterator
from random import Random

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from verifier_model.bpf.insn import ByteOffset, RawSlot, read_slot, row_of, write_slot
from verifier_model.bpf.isa import Kind

_EXECUTABLE = 4
CHANGEABLE = frozenset({Kind.ALU, Kind.BRANCH, Kind.STORE_IMM})


def constants(image: bytes) -> Iterator[tuple[int, RawSlot]]:
    """Position in the file and fields of every instruction with an immediate that no relocation fills in."""
    elf = ELFFile(io.BytesIO(image))
    relocated = {
        (section["sh_info"], entry["r_offset"])
        for section in elf.iter_sections()
        if isinstance(section, RelocationSection)
        for entry in section.iter_relocations()
    }
    for index, section in enumerate(elf.iter_sections()):
        if not section["sh_flags"] & _EXECUTABLE:
            continue
        code, at = section.data(), 0
        while at < len(code):
            slot = read_slot(code, ByteOffset(at), "little")
            row = row_of(slot)
            assert not isinstance(row, str)
            if row.kind in CHANGEABLE and "imm" in row.uses and (index, at) not in relocated:
                yield section["sh_offset"] + at, slot
            at += 8 * row.slots


def with_wrong_constant(image: bytes, random: Random) -> tuple[bytes, str]:
    """The object with one immediate off by one, and where."""
    at, slot = random.choice(list(constants(image)))
    wrong = RawSlot(slot.code, slot.dst, slot.src, slot.off, slot.imm + random.choice((-1, 1)))
    return image[:at] + write_slot(wrong, "little") + image[at + 8 :], f"file offset {at:#x}: {slot} became {wrong}"
