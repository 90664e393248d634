"""Control flow inside one function: blocks from flat code, edges between blocks, orders and dominators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.unit import Block


def split_blocks(insns: Sequence[Insn], labels: Mapping[int, Sequence[str]]) -> tuple[Block, ...]:
    """Cut straight code into blocks: a new one at each label and after each instruction that ends a block.

    `labels[i]` names the places just before instruction `i`; several names of one place give empty blocks in front.
    Places without a name get `B<index of the instruction>`, with underscores added until the name is new.
    """
    taken = {name for names in labels.values() for name in names}
    blocks: list[Block] = []
    current: list[Insn] = []
    name = ""

    def close(next_names: Iterable[str]) -> None:
        nonlocal current, name
        for next_name in next_names:
            if name:
                blocks.append(Block(name, tuple(current)))
            current, name = [], next_name

    for index, insn in enumerate(insns):
        close(labels.get(index, ()))
        if not name or (current and current[-1].row.is_block_end):
            close((_fresh(index, taken),))
        current.append(insn)
    close((*labels.get(len(insns), ()), ""))
    return tuple(blocks)


def _fresh(index: int, taken: set[str]) -> str:
    name = f"B{index}"
    while name in taken:
        name += "_"
    taken.add(name)
    return name
