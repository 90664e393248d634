"""Instructions and functions as text, both ways (DESIGN.md: tests, reports, cache keys and bug reports use it).

The text holds everything that an instruction means; it does not hold what only rides along: `origin`, and the ELF
numbers `symbol` and `relocation` of a reference.  `;` starts a comment.  A function is a list of lines `LABEL:` and
instructions; a block starts at each label and after each branch, jump or exit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from verifier_model.bpf.asm_forms import FORMS, NO_TARGET
from verifier_model.bpf.flow import split_blocks
from verifier_model.bpf.insn import REGISTER_COUNT, Insn, Ref, RefKind
from verifier_model.bpf.isa import BY_NAME, Row
from verifier_model.bpf.unit import Function


class AsmError(ValueError):
    """Text that is no instruction; `line` and `column` count from 1."""

    def __init__(self, line: int, column: int, what: str) -> None:
        super().__init__(f"line {line}, column {column}: {what}")
        self.line = line
        self.column = column


# --- printing -----------------------------------------------------------------------------------------------------

_PLAIN_NAME: Final = re.compile(r"(?![rw]\d+\Z)[A-Za-z_.$][\w.$]*", re.ASCII)


def _quoted(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else json.dumps(name)


def print_insn(insn: Insn) -> str:
    """The instruction as one line; raises ValueError for a kind of symbol that its row cannot carry."""
    ref = insn.ref
    key = (insn.row.name, ref.kind if ref else None, bool(ref and ref.addend))
    template = FORMS.get(key)
    if template is None or (ref and insn.imm and "target" not in insn.row.uses):
        raise ValueError(f"{insn.row.name} has no text form with the reference {ref} and the immediate {insn.imm}")
    fields: dict[str, object] = {
        "rd": f"r{insn.dst}",
        "rs": f"r{insn.src}",
        "wd": f"w{insn.dst}",
        "ws": f"w{insn.src}",
        "off": f"{insn.off:+d}",
        "imm": insn.imm,
        "imm_u": insn.imm,
        "imm_x": f"{insn.imm & 0xFFFFFFFF:#x}",
        "imm_pc": f"{insn.imm:+d}",
        "imm_add": f"+ {insn.imm}",
        "wide": f"{insn.imm:#x}",
        "fd": insn.off,
    }
    if ref is not None:
        fields["target"] = fields["name"] = _quoted(ref.name)
        fields["addend"] = f"{ref.addend:+d}"
    return template.format_map(fields)


def print_function(function: Function) -> str:
    """One line per label and instruction, each ended by a newline."""
    lines = []
    for block in function.blocks:
        lines.append(f"{_quoted(block.label)}:")
        lines.extend(f"  {print_insn(insn)}" for insn in block.insns)
    return "".join(f"{line}\n" for line in lines)


# --- tokens -------------------------------------------------------------------------------------------------------


class Token(NamedTuple):
    """`shape` is what the grammar compares: the text itself, or the class R, W, N (number), NAME or HOLE."""

    shape: str
    text: str
    column: int


_TOKENS: Final = re.compile(
    r"""(?P<space>\s+|;.*)
    |(?P<HOLE>\{\w+\})
    |(?P<R>r\d+(?![\w.$]))
    |(?P<W>w\d+(?![\w.$]))
    |(?P<sign>s?(?:>>=|/=|%=|>=|<=|[<>])|<<=|[-+*|&^=!]=)
    |(?P<N>(?:\+\ ?-?|-\ ?)?(?:0[xX][0-9a-fA-F]+|\d+))
    |(?P<NAME>[A-Za-z_.$][\w.$]*)
    |(?P<STRING>"(?:[^"\\]|\\.)*")
    |(?P<mark>[-+*=&()\[\],:])""",
    re.VERBOSE | re.ASCII,
)
_CLASSES: Final = {"R": "R", "W": "W", "N": "N", "HOLE": "HOLE", "NAME": "NAME", "STRING": "NAME"}


def _tokens(text: str, line: int) -> Iterator[Token]:
    at = 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None:
            raise AsmError(line, at + 1, f"{text[at]!r} is no part of an instruction")
        group = match.lastgroup or ""
        if group != "space":
            shape = _CLASSES.get(group, match.group())
            yield Token(shape, match.group(), at + 1)
        at = match.end()


# --- the grammar: a trie over the shapes of all templates -----------------------------------------------------------

_HOLE_SHAPES: Final = {
    "rd": "R",
    "rs": "R",
    "wd": "W",
    "ws": "W",
    "target": "NAME",
    "name": "NAME",
}


@dataclass
class _Node:
    """A place in the grammar: what may follow, and the instruction that may end here with its placeholders."""

    next: dict[str, _Node] = field(default_factory=dict)
    form: _Form | None = None


class _Form(NamedTuple):
    row: Row
    ref: RefKind | None
    holes: tuple[str | None, ...]  # per token: the placeholder that it fills


def _grammar() -> _Node:
    root = _Node()
    for (row, kind, _), template in FORMS.items():
        if template.endswith(NO_TARGET):
            continue
        node, holes = root, []
        for token in _tokens(template, 0):
            hole = token.text[1:-1] if token.shape == "HOLE" else None
            # A literal register or number (`r0`, `addr_space_cast(.., 0, 1)`) stands for itself.
            shape = _HOLE_SHAPES.get(hole, "N") if hole else token.text
            node = node.next.setdefault(shape, _Node())
            holes.append(hole)
        assert node.form is None, template
        node.form = _Form(BY_NAME[row], kind, tuple(holes))
    return root


_GRAMMAR: Final = _grammar()


def _children(node: _Node, token: Token) -> Iterator[_Node]:
    # A literal before its class: only `r0` can be both, and then only one of the two leads to an end.
    for shape in dict.fromkeys((token.text, token.shape)):
        if shape in node.next:
            yield node.next[shape]


def _match(tokens: list[Token], line: int, end: int) -> _Form:
    nodes = [_GRAMMAR]
    for index, token in enumerate(tokens):
        nodes = [child for node in nodes for child in _children(node, token)]
        if not nodes:
            raise AsmError(line, token.column, f"unexpected {token.text!r} {_place(tokens[:index])}")
    for node in nodes:
        if node.form is not None:
            return node.form
    raise AsmError(line, end, f"the instruction is not complete {_place(tokens)}")


def _place(before: list[Token]) -> str:
    if not before:
        return "at the start of the instruction"
    return f"after {before[-1].text!r}"


# --- filling an instruction's fields ------------------------------------------------------------------------------


def _number(token: Token, line: int, low: int, high: int, bits: str) -> int:
    value = int(token.text.replace(" ", "").replace("+-", "-"), 0 if "x" in token.text.lower() else 10)
    if not low <= value <= high:
        raise AsmError(line, token.column, f"{token.text} does not fit into {bits}")
    return value


def _register(token: Token, line: int) -> int:
    number = int(token.text[1:])
    if number >= REGISTER_COUNT:
        raise AsmError(line, token.column, f"there is no register {token.text}; they end at {token.text[0]}10")
    return number


def _signed16(token: Token, line: int) -> int:
    return _number(token, line, -(1 << 15), (1 << 15) - 1, "16 bits signed")


def _signed32(token: Token, line: int) -> int:
    return _number(token, line, -(1 << 31), (1 << 31) - 1, "32 bits signed")


def _any32(token: Token, line: int) -> int:
    value = _number(token, line, -(1 << 31), (1 << 32) - 1, "32 bits")
    return value - (1 << 32) if value >> 31 > 0 else value


def _any64(token: Token, line: int) -> int:
    return _number(token, line, -(1 << 63), (1 << 64) - 1, "64 bits") & ((1 << 64) - 1)


def _name(token: Token, line: int) -> str:
    if token.text[0] != '"':
        return token.text
    try:
        name = json.loads(token.text)
    except json.JSONDecodeError as error:
        raise AsmError(line, token.column + error.pos, "the quoted name is not a JSON string") from error
    return str(name)


_FIELDS: Final[dict[str, tuple[str, Callable[[Token, int], Any]]]] = {
    "rd": ("dst", _register),
    "rs": ("src", _register),
    "wd": ("dst", _register),
    "ws": ("src", _register),
    "off": ("off", _signed16),
    "fd": ("off", _signed16),
    "imm": ("imm", _signed32),
    "imm_u": ("imm", _any32),
    "imm_x": ("imm", _any32),
    "imm_pc": ("imm", _signed32),
    "imm_add": ("imm", _signed32),
    "wide": ("imm", _any64),
    "target": ("name", _name),
    "name": ("name", _name),
    "addend": ("addend", _any64),
}


def _parse_tokens(tokens: list[Token], line: int, end: int) -> Insn:
    form = _match(tokens, line, end)
    fields: dict[str, Any] = {}
    for token, hole in zip(tokens, form.holes, strict=True):
        if hole is None:
            continue
        name, read = _FIELDS[hole]
        value = read(token, line)
        if fields.setdefault(name, value) != value:
            needed = f"{token.text[0]}{fields[name]}"
            raise AsmError(line, token.column, f"{token.text} stands where {needed} is needed")
    ref = None if form.ref is None else Ref(form.ref, fields.pop("name"), _signed64(fields.pop("addend", 0)))
    return Insn(form.row, ref=ref, **fields)


def _signed64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


# --- parsing ------------------------------------------------------------------------------------------------------


def _lines(text: str) -> Iterator[tuple[int, list[Token], int]]:
    for line, content in enumerate(text.split("\n"), start=1):
        tokens = list(_tokens(content, line))
        if tokens:
            yield line, tokens, tokens[-1].column + len(tokens[-1].text)


def _label_of(tokens: list[Token]) -> Token | None:
    if len(tokens) == 2 and tokens[0].shape == "NAME" and tokens[1].text == ":":
        return tokens[0]
    return None


def parse_insns(text: str) -> tuple[Insn, ...]:
    """The instructions of a text without labels (branches may name any label); raises AsmError."""
    return tuple(_parse_tokens(tokens, line, end) for line, tokens, end in _lines(text))


def parse_function(text: str, name: str = "f", **fields: Any) -> Function:
    """A function from labels and instructions; `fields` go to `Function`, whose section is `.text` unless given.

    Raises AsmError, also for labels that are missing or defined twice.
    """
    insns: list[Insn] = []
    labels: dict[int, list[str]] = {}
    defined: dict[str, int] = {}
    used: list[tuple[str, int, int]] = []
    for line, tokens, end in _lines(text):
        label = _label_of(tokens)
        if label is None:
            insn = _parse_tokens(tokens, line, end)
            if insn.ref is not None and insn.ref.kind is RefKind.LABEL:
                used.append((insn.ref.name, line, tokens[-1].column))
            insns.append(insn)
            continue
        spelled = _name(label, line)
        if spelled in defined:
            raise AsmError(line, label.column, f"label {spelled} is already defined at line {defined[spelled]}")
        defined[spelled] = line
        labels.setdefault(len(insns), []).append(spelled)
    for spelled, line, column in used:
        if spelled not in defined:
            raise AsmError(line, column, f"label {spelled} is not defined")
    return Function(name, fields.pop("section", ".text"), split_blocks(insns, labels), **fields)
