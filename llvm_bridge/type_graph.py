"""The BTF of an object as a graph of types; parsed once for all who ask about the same bytes in turn."""

from __future__ import annotations

from functools import lru_cache

from llvm_bridge.elf import Elf
from verifier_model.bpf import btf
from verifier_model.bpf.btf import Btf
from verifier_model.bpf.insn import ByteOrder


def type_graph(elf: Elf) -> Btf | None:
    """The types in .BTF, None without that section; raises BtfError."""
    index = elf.section_index(".BTF")
    return None if index is None else _parsed(elf.sections[index].data, elf.order)


@lru_cache(maxsize=1)
def _parsed(data: bytes, order: ByteOrder) -> Btf:
    return btf.parse(data, order)
