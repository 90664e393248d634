"""What the writer does with real changes, and what it refuses."""

from __future__ import annotations

import ctypes
import ctypes.util
import io
import random
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from elftools.elf.elffile import ELFFile

from llvm_bridge import btf_ext
from llvm_bridge.dwarf import debug_sections
from llvm_bridge.elf import parse, parse_relocations, serialise
from llvm_bridge.lint import lint
from llvm_bridge.object import Object, Untouched
from llvm_bridge.prune import drop_sections
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object
from tests.llvm_bridge.objects import compile_text, compiled, needs
from tests.llvm_bridge.test_shake import read, shake, write
from verifier_model.bpf.insn import Insn, Ref, RefKind, label, make
from verifier_model.bpf.unit import Block, Function

pytestmark = needs("clang-19")


def edited(source: Object, name: str, change: Callable[[list[Insn]], list[Insn]], block: int = 0) -> bytes | Untouched:
    """The object with one block of one function changed."""
    function = source.unit.function(name)
    old = function.blocks[block]
    return write_object(
        source, source.unit.with_function(function.with_block(Block(old.label, tuple(change(list(old.insns))))))
    )


def refused(outcome: bytes | Untouched, function: str | None, reason: str) -> None:
    assert isinstance(outcome, Untouched)
    assert outcome.function == function
    assert reason in outcome.reason


# ---- .BTF.ext


def lines_of(source: Object, name: str) -> list[tuple[int, int, int] | None]:
    return [insn.origin.line for _, insn in source.unit.function(name).insns()]


def test_the_first_instruction_keeps_a_line_record() -> None:
    source = read(compiled("calls"))
    first = lines_of(source, "third")[0]
    assert first is not None
    written = edited(source, "third", lambda insns: insns[1:])
    assert isinstance(written, bytes)
    after = lines_of(read(written), "third")
    assert after[0] is not None
    bare = edited(source, "third", lambda insns: [make("mov64_reg", dst=6, src=1), *insns[1:]])
    assert isinstance(bare, bytes)
    assert lines_of(read(bare), "third")[0] == first


def test_a_subsection_without_records_goes_and_the_rest_stays() -> None:
    source = read(compiled("core"))
    unit = source.unit
    function = unit.function("direct")
    kept = [replace(b, insns=tuple(i for i in b.insns if not i.origin.core)) for b in function.blocks]
    written = write(source, unit.with_function(replace(function, blocks=tuple(kept))))
    before, after = source.ext, read(written).ext
    assert before is not None
    assert after is not None
    assert len(after.tables[btf_ext.CORES]) == len(before.tables[btf_ext.CORES]) - 1
    assert len(after.tables[btf_ext.LINES]) == len(before.tables[btf_ext.LINES])
    for name in ("reads", "direct"):
        function = unit.function(name)
        kept = [replace(b, insns=tuple(i for i in b.insns if not i.origin.core)) for b in function.blocks]
        unit = unit.with_function(replace(function, blocks=tuple(kept)))
    gone = read(write(source, unit)).ext
    assert gone is not None
    assert gone.tables[btf_ext.CORES] == ()
    assert not lint(write(source, unit))


def test_debug_sections_stay_when_code_moves() -> None:
    source = read(compiled("calls"))
    same = edited(source, "third", lambda insns: [replace(insns[0], dst=7), *insns[1:]])
    shorter = edited(source, "third", lambda insns: insns[1:])
    assert isinstance(same, bytes)
    assert isinstance(shorter, bytes)
    names = [{section.name for section in ELFFile(io.BytesIO(data)).iter_sections()} for data in (same, shorter)]
    assert ".debug_info" in names[0]
    assert names[0] == names[1]


def test_address_significance_follows_renumbered_symbols() -> None:
    source = read(compiled("calls"))
    written = serialise(drop_sections(source.elf, debug_sections(source.elf)))
    assert significant(written) == significant(source.data)
    assert len(parse(written).symbols) < len(source.elf.symbols)


def significant(data: bytes) -> list[str]:
    from llvm_bridge.prune import uleb_list

    elf = parse(data)
    number = elf.section_index(".llvm_addrsig")
    assert number is not None
    symbols = (elf.symbols[n] for n in uleb_list(elf.sections[number].data))
    return [symbol.name or elf.sections[symbol.section].name for symbol in symbols]


# ---- references


def test_a_new_reference_finds_its_symbol() -> None:
    """Rewrites may make references of their own, without a symbol number."""
    source = read(compiled("calls"))
    fresh = [
        make("lddw_constant", dst=1, ref=Ref(RefKind.MAP, "table")),
        make("lddw_constant", dst=1, ref=Ref(RefKind.DATA, ".bss", 8)),
        make("lddw_constant", dst=1, ref=Ref(RefKind.FUNCTION, "step")),
        make("call_local", ref=Ref(RefKind.FUNCTION, "deeper")),
    ]
    written = edited(source, "third", lambda insns: [*fresh, *insns])
    assert isinstance(written, bytes)
    found = [insn.ref for _, insn in read(written).unit.function("third").insns()][:4]
    assert [(ref.kind, ref.name, ref.addend) for ref in found if ref] == [
        (i.ref.kind, i.ref.name, i.ref.addend) for i in fresh if i.ref
    ]
    refused(
        edited(source, "third", lambda insns: [make("lddw_constant", dst=1, ref=Ref(RefKind.MAP, "none")), *insns]),
        "third",
        "nothing is called none",
    )


def test_a_function_pointer_with_an_addend_in_data_follows() -> None:
    text = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    int value;
    SEC("struct_ops/a") int front(void *c) { return value + 1; }
    SEC("struct_ops/a") static __attribute__((used)) int back(void *c) { return value + 2; }
    struct ops { int (*one)(void *); int (*two)(void *); };
    SEC(".struct_ops") struct ops table = { front, back };
    """
    data = compile_text(text, "clang-19", "bpf", "v3", "-g")
    source = read(data)
    offset = 8 * source.unit.function("front").slots
    assert pointers(data) == [0, offset]
    longer = edited(source, "front", lambda insns: [make("mov64_imm", dst=0, imm=1), *insns])
    assert isinstance(longer, bytes)
    assert pointers(longer) == [0, offset + 8]


def pointers(data: bytes) -> list[int]:
    """Offsets in its section that the two function pointers in .struct_ops name."""
    elf = parse(data)
    home = elf.section_index(".struct_ops")
    assert home is not None
    return [
        elf.symbols[e.symbol].value + struct.unpack_from("<q", elf.sections[home].data, e.offset)[0]
        for e in parse_relocations(elf, elf.relocation_sections()[home])
    ]


def test_a_label_inside_a_function_follows() -> None:
    text = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    SEC("xdp") int f(struct xdp_md *c) { int x = c->rx_queue_index; asm volatile("marked: %0 += 1" : "+r"(x)); return
    x; }
    """
    source = read(compile_text(text, "clang-19", "bpf", "v3", "-g"))
    old = next(s.value for s in source.elf.symbols if s.name == "marked")
    written = edited(source, "f", lambda insns: [make("mov64_imm", dst=0, imm=1), *insns])
    assert isinstance(written, bytes)
    assert next(s.value for s in parse(written).symbols if s.name == "marked") == old + 8


# ---- what stays as it is


UNKNOWN_OPCODE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int value;
__attribute__((noinline)) static int front(int x) { value += x; return x * value; }
__attribute__((noinline)) static int back(int x) { value ^= x; return x + value; }
SEC("xdp") int odd(struct xdp_md *c) { asm volatile(".8byte 0xff"); return front(1) + back(c->rx_queue_index); }
SEC("xdp") int neighbour(struct xdp_md *c) { return back(3); }
SEC("tc") int free_one(struct __sk_buff *s) { return front(2) + back(s->len); }
"""


def test_an_unknown_opcode_freezes_its_section_and_no_other() -> None:
    source = read(compile_text(UNKNOWN_OPCODE, "clang-19", "bpf", "v3", "-g"))
    reasons = {f.name: f.untouchable for f in source.unit.functions}
    assert "opcode 0xff is not in the table" in (reasons["odd"] or "")
    assert "opcode 0xff is not in the table" in (reasons["neighbour"] or "")
    assert (reasons["front"], reasons["back"], reasons["free_one"]) == (None, None, None)
    longer = edited(source, "front", lambda insns: [make("mov64_imm", dst=0, imm=1), *insns])
    assert isinstance(longer, bytes)  # the lint has looked at the calls out of the frozen section
    calls = [call_target_of(data) for data in (source.data, longer)]
    assert calls[1] == (calls[0][0], calls[0][1] + 8)


def call_target_of(data: bytes) -> tuple[int, ...]:
    """Bytes of .text that the relocated calls in section xdp go to, front's first."""
    elf = parse(data)
    home = elf.section_index("xdp")
    assert home is not None
    code = elf.sections[home].data
    entries = parse_relocations(elf, elf.relocation_sections()[home])
    return tuple(sorted({8 * (struct.unpack_from("<i", code, e.offset + 4)[0] + 1) for e in entries}))


def test_an_untouchable_function_must_not_change() -> None:
    source = read(compile_text(UNKNOWN_OPCODE, "clang-19", "bpf", "v3", "-g"))
    refused(edited(source, "neighbour", lambda insns: insns[1:]), "neighbour", "must not be changed")


def test_functions_that_share_their_code_are_frozen() -> None:
    text = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    SEC("xdp") int one(struct xdp_md *c) { return c->rx_queue_index; }
    int two(struct xdp_md *c) __attribute__((alias("one")));
    """
    source = read(compile_text(text, "clang-19", "bpf", "v3", "-g"))
    assert all("several" in (f.untouchable or "") for f in source.unit.functions)
    assert len(source.unit.functions) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda insns: insns[:-1], "run off"),
        (lambda insns: [*insns, make("exit")], "middle of a block"),
        (lambda insns: [make("ja", ref=label("L999"))], "no instruction to go to"),
        (lambda insns: [make("sdiv64_imm", dst=1, imm=3), *insns], "above CPU level v3"),
        (lambda insns: [make("mov64_imm", dst=1, imm=1 << 40), *insns], "does not fit"),
        (lambda insns: [make("call_local"), *insns], "without a target"),
        (lambda insns: [], "without instructions"),
    ],
)
def test_impossible_functions_are_refused(change: Callable[[list[Insn]], list[Insn]], reason: str) -> None:
    refused(edited(read(compiled("calls")), "third", change), "third", reason)


def test_nothing_but_instructions_may_change() -> None:
    source = read(compiled("calls"))
    unit = source.unit
    refused(write_object(source, replace(unit, license="MIT")), None, "licence")
    refused(write_object(source, replace(unit, functions=unit.functions[1:])), None, "added or removed")
    other = replace(unit.function("third"), section="xdp")
    refused(write_object(source, unit.with_function(other)), "third", "something else")


def test_a_far_jump_becomes_gotol_where_the_level_has_it() -> None:
    def stretched(source: Object) -> Function:
        function = source.unit.function("classify")
        first = function.blocks[0]
        filler = Block("filler", (*tuple(make("mov64_imm", dst=0, imm=1) for _ in range(33000)), make("exit")))
        head = Block(first.label, (make("ja", ref=label("far")),))
        far = Block("far", first.insns)
        return replace(function, blocks=(head, filler, far, *function.blocks[1:]))

    old = read(compiled("packets", "clang-19", "bpf", "v3"))
    refused(write_object(old, old.unit.with_function(stretched(old))), "classify", "too far")
    new = read(compiled("packets", "clang-19", "bpf", "v4"))
    written = write(new, new.unit.with_function(stretched(new)))
    assert next(read(written).unit.function("classify").insns())[1].row.name == "gotol"


# ---- the kernel


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("name", ["calls", "packets"])
def test_the_kernel_loads_a_shaken_object(name: str) -> None:
    """By libbpf, nothing pinned and nothing attached."""
    source = read(compiled(name, "clang-19", "bpf", "v3", "-g", "-DPLAIN"))
    assert load(source.data) == 0
    for seed in range(3):
        assert load(shake(source, 0.2, random.Random(seed))[0]) == 0


def load(data: bytes) -> int:
    libbpf = ctypes.CDLL(ctypes.util.find_library("bpf") or "libbpf.so.1")
    libbpf.libbpf_set_print(None)
    libbpf.bpf_object__open_mem.restype = ctypes.c_void_p
    buffer = ctypes.create_string_buffer(data, len(data))
    handle = libbpf.bpf_object__open_mem(buffer, ctypes.c_size_t(len(data)), None)
    if not handle:
        return -1
    status = int(libbpf.bpf_object__load(ctypes.c_void_p(handle)))
    libbpf.bpf_object__close(ctypes.c_void_p(handle))
    return status


def test_work_grows_with_the_object_and_not_faster() -> None:
    """Counted in function calls, not in seconds."""
    import cProfile

    def cost(copies: int) -> int:
        body = "".join(
            f'SEC("xdp") int f{n}(struct xdp_md *c) {{ value += c->rx_queue_index * {n + 3}; return value > {n}; }}\n'
            for n in range(copies)
        )
        text = f"#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nint value;\n{body}"
        data = compile_text(text, "clang-19", "bpf", "v3", "-g")
        profile = cProfile.Profile()
        profile.enable()
        source = read_object(data)
        assert isinstance(source, Object)
        write(source, source.unit.with_function(longer(source.unit.functions[0])))
        profile.disable()
        return sum(entry.callcount for entry in profile.getstats())

    def longer(function: Function) -> Function:
        first = function.blocks[0]
        return function.with_block(replace(first, insns=(make("mov64_imm", dst=0, imm=0), *first.insns)))

    assert cost(400) < 4.6 * cost(100)
