"""A counterexample for people: where both programs start, and what each does from there, beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import groupby, zip_longest
from typing import Final

from k2_tools.alignment import LABEL
from verifier_model.verdict import Counterexample, Shown

WIDTH: Final = 56
MARK: Final = "*"
MOST_LINES: Final = 60  # of those that are equal on both sides only the last few before a difference are shown
CONTEXT: Final = 3


def side_by_side(found: Counterexample) -> Iterator[str]:
    """The lines of the table; those that differ are marked."""
    set_registers = [f"r{number} = {value:#x}" for number, value in enumerate(found.registers) if value]
    yield f"start: {', '.join(set_registers) or 'every register is 0'}"
    set_bytes = [(address, value) for address, value in found.memory if value]
    if set_bytes:
        yield f"memory that is not 0: {', '.join(_bytes(set_bytes))}"
    if any(found.call_results):
        yield f"calls return: {', '.join(f'{value:#x}' for value in found.call_results)}"
    if any(found.steps):
        yield f"  {'before':{WIDTH}} after"
        yield from _rows(*found.steps)
    yield f"differs: {found.difference}"


def _bytes(memory: list[tuple[int, int]]) -> Iterator[str]:
    """Bytes that lie in a row as one entry."""
    for _, group in groupby(enumerate(memory), key=lambda entry: entry[1][0] - entry[0]):
        run = [byte for _, byte in group]
        yield f"[{run[0][0]:#x}] {bytes(value for _, value in run).hex(' ')}"


def _rows(before: tuple[Shown, ...], after: tuple[Shown, ...]) -> Iterator[str]:
    rows = list(_aligned(before, after))
    near = [any(row[2] for row in rows[max(at - 1, 0) : at + CONTEXT + 1]) for at in range(len(rows))]
    skipped = 0
    for (left, right, differs), is_near in zip(rows, near, strict=True):
        if len(rows) > MOST_LINES and not (differs or is_near):
            skipped += 1
            continue
        if skipped:
            yield f"  ... {skipped} equal lines"
            skipped = 0
        yield f"{MARK if differs else ' '} {left:{WIDTH}} {right}".rstrip()
    if skipped:
        yield f"  ... {skipped} equal lines"


def _aligned(before: Iterable[Shown], after: Iterable[Shown]) -> Iterator[tuple[str, str, bool]]:
    """Both sides' lines in order; labels are named after places and make no difference by themselves."""
    old, new = [_line(step) for step in before], [_line(step) for step in after]
    plain = [[LABEL.sub("L", line) for line in lines] for lines in (old, new)]
    for tag, i1, i2, j1, j2 in SequenceMatcher(a=plain[0], b=plain[1], autojunk=False).get_opcodes():
        for left, right in zip_longest(old[i1:i2], new[j1:j2], fillvalue=""):
            yield left, right, tag != "equal"


def _line(step: Shown) -> str:
    text, value = step
    if value is None:
        return text
    if text.startswith("if "):
        return f"{text:38} {'taken' if value else 'not taken'}"
    return f"{text:38} {value:#x}"
