"""Which sections describe code in terms of addresses that no relocation carries (toolchain-conventions, section 6.6).

DWARF holds lengths and deltas inline, so moving code breaks it even when all relocations are followed.  While no
function moves or changes its length it stays valid as far as anybody can tell from outside; otherwise these sections
are dropped, as `llvm-strip -g` and `bpftool gen object` do.  `.BTF` and `.BTF.ext`, which the kernel reads, are not
among them.
"""

from __future__ import annotations

from typing import Final

from llvm_bridge.elf import Elf

_PREFIXES: Final = (".debug_", ".zdebug_", ".eh_frame", ".gnu.debuglto_")


def describes_addresses(name: str) -> bool:
    return name.startswith(_PREFIXES)


def debug_sections(elf: Elf) -> frozenset[int]:
    """The sections to drop when code moves, without their REL sections (which go with them)."""
    return frozenset(index for index, section in enumerate(elf.sections) if describes_addresses(section.name))
