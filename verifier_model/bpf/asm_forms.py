"""The text form of every row, in the syntax of the kernel's own disassembler (kernel/bpf/disasm.c).

One template per row and kind of symbol serves the printer and, tokenised, the parser: they cannot drift apart.
Deviations from the kernel's syntax, all needed to read the text back: wide loads end in ` ll`, symbols stand in
brackets (`map[flows]`, `data[.rodata+8]`, `fn[name]`, `extern[name]`, `kfunc[name]`), labels replace `pc+N`.

Placeholders of a template, `{name}`:

    rd rs wd ws   register dst or src as rN or wN         off    displacement, 16 bits signed, printed with its sign
    imm           immediate, 32 bits signed, decimal      imm_u  the same, where 32 bits unsigned are accepted too
    imm_x         like imm_u, printed in hexadecimal      wide   64 bits unsigned, hexadecimal
    imm_pc        immediate, printed with its sign        fd     index of a kernel function's BTF file, 16 bits
    imm_add       immediate, printed after `+`            target a label
    name          a symbol, and `addend` bytes from its start
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from verifier_model.bpf.insn import RefKind
from verifier_model.bpf.isa import ROWS, Kind, Operand, Row, WideSource

FormKey = tuple[str, RefKind | None, bool]  # row name, kind of symbol, does it have an addend?
Variant = tuple[RefKind | None, bool, str]  # the last two parts of the key, and the template

ALU_SIGNS: Final = {
    "add": "+=",
    "sub": "-=",
    "mul": "*=",
    "div": "/=",
    "sdiv": "s/=",
    "or": "|=",
    "and": "&=",
    "lsh": "<<=",
    "rsh": ">>=",
    "mod": "%=",
    "smod": "s%=",
    "xor": "^=",
    "mov": "=",
    "arsh": "s>>=",
}
BRANCH_SIGNS: Final = {
    "jeq": "==",
    "jgt": ">",
    "jge": ">=",
    "jset": "&",
    "jne": "!=",
    "jsgt": "s>",
    "jsge": "s>=",
    "jlt": "<",
    "jle": "<=",
    "jslt": "s<",
    "jsle": "s<=",
}
REF_WORDS: Final = {RefKind.FUNCTION: "fn", RefKind.MAP: "map", RefKind.DATA: "data", RefKind.EXTERN: "extern"}
NO_TARGET: Final = "?"  # a branch whose label nobody has filled in; printed, never parsed


def _register_letter(row: Row) -> str:
    return "w" if row.width == 32 else "r"


def _operand(row: Row, immediate: str) -> str:
    return f"{{{_register_letter(row)}s}}" if row.operand is Operand.REG else f"{{{immediate}}}"


def _plain(template: str) -> Iterator[Variant]:
    yield None, False, template


def _alu(row: Row) -> Iterator[Variant]:
    letter = _register_letter(row)
    dst = f"{{{letter}d}}"
    if row.op == "neg":
        return _plain(f"{dst} = -{dst}")
    if row.op.startswith("movsx"):
        return _plain(f"{dst} = (s{row.fixed_off}){{{letter}s}}")
    return _plain(f"{dst} {ALU_SIGNS[row.op]} {_operand(row, 'imm_u' if row.width == 32 else 'imm')}")


def _endian(row: Row) -> Iterator[Variant]:
    return _plain(f"{{rd}} = {row.name} {{rd}}")


def _cast(row: Row) -> Iterator[Variant]:
    spaces = row.fixed_imm or 0
    return _plain(f"{{rd}} = addr_space_cast({{rs}}, {spaces >> 16}, {spaces & 0xFFFF})")


def _load(row: Row) -> Iterator[Variant]:
    return _plain(f"{{rd}} = *({'s' if row.sign else 'u'}{row.width} *)({{rs}} {{off}})")


def _store(row: Row) -> Iterator[Variant]:
    value = "{rs}" if row.kind is Kind.STORE else "{imm_u}" if row.width <= 32 else "{imm}"
    return _plain(f"*(u{row.width} *)({{rd}} {{off}}) = {value}")


def _atomic(row: Row) -> Iterator[Variant]:
    place, wide = f"(u{row.width} *)({{rd}} {{off}})", "64" if row.width == 64 else ""
    if not row.fetch:
        return _plain(f"lock *{place} {ALU_SIGNS[row.op]} {{rs}}")
    if row.op == "cmpxchg":
        return _plain(f"r0 = atomic{wide}_cmpxchg({place}, r0, {{rs}})")
    verb = row.op if row.op == "xchg" else f"fetch_{row.op}"
    return _plain(f"{{rs}} = atomic{wide}_{verb}({place}, {{rs}})")


def _load_acquire(row: Row) -> Iterator[Variant]:
    return _plain(f"{{rd}} = load_acquire((u{row.width} *)({{rs}} {{off}}))")


def _store_release(row: Row) -> Iterator[Variant]:
    return _plain(f"store_release((u{row.width} *)({{rd}} {{off}}), {{rs}})")


def _symbols(words: dict[RefKind, str], around: str) -> Iterator[Variant]:
    for kind, word in words.items():
        yield kind, False, around.replace("@", f"{word}[{{name}}]")
        yield kind, True, around.replace("@", f"{word}[{{name}}{{addend}}]")


def _wide(row: Row) -> Iterator[Variant]:
    if row.fixed_src == WideSource.CONSTANT:
        yield from _plain("{rd} = {wide} ll")
        yield from _symbols(REF_WORDS, "{rd} = @ ll")
        return
    source = WideSource(row.fixed_src or 0).name.lower()
    yield from _plain(f"{{rd}} = {source}({{wide}}) ll")
    yield from _symbols(REF_WORDS, f"{{rd}} = {source}(@) ll")


def _legacy(row: Row) -> Iterator[Variant]:
    index = "{imm}" if row.op == "abs" else "{rs} {imm_add}"
    return _plain(f"r0 = *(u{row.width} *)skb[{index}]")


def _jump(row: Row) -> Iterator[Variant]:
    word = {"ja": "goto", "gotol": "gotol", "may_goto": "may_goto"}[row.name]
    yield RefKind.LABEL, False, f"{word} {{target}}"
    yield None, False, f"{word} {NO_TARGET}"


def _branch(row: Row) -> Iterator[Variant]:
    comparison = f"if {{{_register_letter(row)}d}} {BRANCH_SIGNS[row.op]} {_operand(row, 'imm_x')} goto"
    yield RefKind.LABEL, False, f"{comparison} {{target}}"
    yield None, False, f"{comparison} {NO_TARGET}"


def _call(row: Row) -> Iterator[Variant]:
    if row.name == "call_helper":
        yield from _plain("call {imm}")
    elif row.name == "call_local":
        yield from _plain("call pc{imm_pc}")
        yield from _symbols(REF_WORDS, "call @")
    else:
        yield from _plain("call kfunc({imm}, {fd})")
        yield from _symbols({RefKind.EXTERN: "kfunc"}, "call @")


def _exit(row: Row) -> Iterator[Variant]:
    return _plain("exit")


_BY_KIND: Final[dict[Kind, Callable[[Row], Iterator[Variant]]]] = {
    Kind.ALU: _alu,
    Kind.ENDIAN: _endian,
    Kind.CAST: _cast,
    Kind.LOAD_WIDE: _wide,
    Kind.LOAD: _load,
    Kind.STORE: _store,
    Kind.STORE_IMM: _store,
    Kind.ATOMIC: _atomic,
    Kind.LOAD_ACQUIRE: _load_acquire,
    Kind.STORE_RELEASE: _store_release,
    Kind.LEGACY_LOAD: _legacy,
    Kind.JUMP: _jump,
    Kind.MAY_GOTO: _jump,
    Kind.BRANCH: _branch,
    Kind.CALL: _call,
    Kind.EXIT: _exit,
}

FORMS: Final[dict[FormKey, str]] = {
    (row.name, kind, has_addend): template for row in ROWS for kind, has_addend, template in _BY_KIND[row.kind](row)
}
