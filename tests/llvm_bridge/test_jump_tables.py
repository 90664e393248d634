"""Functions with computed jumps (LLVM 22): untouched, and yet they move, with their tables and all that names them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.corpus.shake import contents, taken_out, with_no_ops
from llvm_bridge import jump_tables
from llvm_bridge.elf import Elf, Symbol, parse, parse_relocations, relocation_bytes, serialise, with_sections
from llvm_bridge.lint import lint
from llvm_bridge.object import Object, Untouched
from llvm_bridge.reader import read_object
from llvm_bridge.references import code_addend
from llvm_bridge.writer import write_object
from tests.llvm_bridge.objects import compile_text
from verifier_model.bpf.insn import make
from verifier_model.bpf.unit import Block, Function

SEED = 20261123
# The switch becomes a table in .jumptables, the computed goto one in .rodata.
CASES = "".join(f"case {n}: r = seen {'+*/^|'[n % 5]} {n * 7 + 3}; break;\n" for n in range(24))
PROGRAM = f"""
#define SEC(name) __attribute__((section(name), used))
int seen;
__attribute__((noinline)) int outside(int x) {{ return x * seen + 1; }}
static __attribute__((noinline)) SEC("xdp") int beside(int x) {{ return x / seen; }}
SEC("xdp") int first(void *ctx) {{ int x = seen; return outside(x) & 1; }}
SEC("xdp") int many(unsigned *ctx)
{{
    int r;
    switch (*ctx) {{
    {CASES}
    default: r = beside(2) + outside(3);
    }}
    return r;
}}
SEC("xdp") int second(void *ctx) {{ return outside(seen) * 5; }}
SEC("xdp") int computed(unsigned *ctx)
{{
    static void *const to[] = {{&&a, &&b, &&c}};
    unsigned i = *ctx;
    if (i > 2) return 0;
    goto *to[i];
a:  return seen;
b:  return seen * 3;
c:  return outside(4);
}}
SEC("xdp") int last(void *ctx) {{ return outside(3) + beside(7); }}
char _license[] SEC("license") = "GPL";
"""
pytestmark = pytest.mark.needs("ziglang")


def compiled(*options: str) -> bytes:
    """Real clang 22 for BPF emits no .eh_frame; zig asks for it."""
    quiet = ("-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
    return compile_text(PROGRAM, "ziglang", "bpfel-freestanding", "v4", *(options or ("-g",)), *quiet)


def read(data: bytes) -> Object:
    found = read_object(data)
    assert isinstance(found, Object), found
    return found


def labels(elf: Elf, table: str = ".jumptables") -> list[int]:
    """All entries: of .jumptables as they are, of .rodata as addends."""
    index = elf.section_index(table)
    assert index is not None
    data = elf.sections[index].data
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) // 8 * 8, 8)]


def start(elf: Elf, name: str) -> int:
    return next(symbol.value for symbol in elf.symbols if symbol.name == name)


def body(elf: Elf, name: str) -> bytes:
    symbol = next(symbol for symbol in elf.symbols if symbol.name == name)
    return elf.sections[symbol.section].data[symbol.value : symbol.value + symbol.size]


def shaken(source: Object, chance: float = 0.5) -> tuple[bytes, dict[str, tuple[int, ...]]]:
    unit, places = source.unit, {}
    for function in unit.functions:
        if function.untouchable is None:
            changed, places[function.name] = with_no_ops(function, chance, random.Random(SEED))
            unit = unit.with_function(changed)
    data = write_object(source, unit)
    assert isinstance(data, bytes), data
    return data, places


def test_functions_with_computed_jumps_are_untouched_their_neighbours_are_not() -> None:
    reasons = {function.name: function.untouchable for function in read(compiled()).unit.functions}
    assert reasons["many"] == reasons["computed"] == "it has computed jumps"
    assert reasons["first"] is reasons["last"] is reasons["beside"] is reasons["outside"] is None


@pytest.mark.parametrize("options", [("-g",), ("-g0",), ("-gdwarf-4",)])
def test_unchanged_they_come_back_to_the_byte(options: tuple[str, ...]) -> None:
    from llvm_bridge import writer

    source = read(compiled(*options))
    assert writer._write(source, source.unit) == source.data


def test_tables_and_everything_else_move_along() -> None:
    source = read(compiled())
    data, places = shaken(source)
    old, new = source.elf, parse(data)
    by = start(new, "many") - start(old, "many")
    assert by > 0
    assert labels(new) == [label + by for label in labels(old)]
    assert by < (by := start(new, "computed") - start(old, "computed"))
    assert labels(new, ".rodata")[:3] == [label + by for label in labels(old, ".rodata")[:3]]
    assert lint(data) == ()
    assert calls(new, "many") == calls(old, "many")
    assert calls(new, "computed") == calls(old, "computed")
    again = read(data)
    assert contents(taken_out_all(again, places)) == contents(source.data)


def taken_out_all(again: Object, places: dict[str, tuple[int, ...]]) -> bytes:
    restored = taken_out(again, places)
    assert isinstance(restored, bytes), restored
    return restored


def calls(elf: Elf, name: str) -> list[str]:
    """What a function's calls call, by name, in order."""
    home = next(symbol for symbol in elf.symbols if symbol.name == name)
    functions = {(s.section, s.value): s.name for s in elf.symbols if s.type == 2}
    table = elf.relocation_sections()[home.section]
    relocated = {entry.offset: entry for entry in parse_relocations(elf, table)}
    found = []
    data = elf.sections[home.section].data
    for at in range(home.value, home.value + home.size, 8):
        if data[at : at + 2] == b"\x85\x10":
            entry = relocated.get(at)
            if entry is None:
                immediate = int.from_bytes(data[at + 4 : at + 8], "little", signed=True)
                found.append(functions[home.section, at + 8 * (immediate + 1)])
            else:
                symbol = elf.symbols[entry.symbol]
                found.append(functions[symbol.section, symbol.value + code_addend(elf, home.section, entry)])
    return found


def test_when_a_neighbour_shrinks_they_move_to_the_front() -> None:
    source = read(compiled())
    function = source.unit.function("first")
    smaller = replace(function, blocks=(Block("L0", (make("mov64_imm", 0), make("exit"))),))
    data = write_object(source, source.unit.with_function(smaller))
    assert isinstance(data, bytes), data
    new = parse(data)
    by = start(new, "many") - start(source.elf, "many")
    assert by == 16 - function.slots * 8 < 0
    assert labels(new) == [label + by for label in labels(source.elf)]
    assert lint(data) == ()
    # What names a moved function from inside another section follows, too.
    assert [f.name for f in read(data).unit.functions] == [f.name for f in source.unit.functions]


def test_line_records_follow() -> None:
    source = read(compiled())
    again = read(shaken(source)[0])

    def lines(one: Object, name: str) -> tuple[object, ...]:
        placed = next(p for section in one.code.values() for p in section.functions if p.name == name)
        assert placed.opaque is not None
        return placed.opaque.lines, [(at, replace(i, ref=None)) for at, i in placed.opaque.references]

    for name in ("many", "computed"):
        assert lines(again, name) == lines(source, name)
        assert lines(source, name)[0]


def test_they_cannot_be_changed() -> None:
    source = read(compiled())
    function = source.unit.function("many")
    found = write_object(source, source.unit.with_function(replace(function, blocks=(Block("L0", (make("exit"),)),))))
    assert isinstance(found, Untouched)
    assert found.function == "many"


def table_with(data: bytes, change: Callable[[Elf, bytearray], None]) -> bytes:
    elf = parse(data)
    index = elf.section_index(".jumptables")
    assert index is not None
    table = bytearray(elf.sections[index].data)
    change(elf, table)
    return serialise(with_sections(elf, {index: bytes(table)}))


def put(table: bytearray, number: int, label: int) -> None:
    table[8 * number : 8 * number + 8] = (label & ((1 << 64) - 1)).to_bytes(8, "little")


def wide_load(elf: Elf) -> int:
    """The second slot of the wide load behind the computed jump."""
    return min(labels(elf)) + 8


DAMAGES: dict[str, Callable[[Elf, bytearray], None]] = {
    "into an instruction": lambda elf, table: put(table, 3, labels(elf)[3] + 1),
    "second slot": lambda elf, table: put(table, 3, wide_load(elf)),
    "another function": lambda elf, table: put(table, 0, start(elf, "last")),
    "in front of the function": lambda elf, table: put(table, 0, start(elf, "many") - 8),
    "nowhere": lambda elf, table: put(table, 23, -8),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_tables_that_lead_elsewhere_are_found_and_freeze_the_section(damage: str) -> None:
    data = table_with(compiled("-g0"), DAMAGES[damage])
    assert {finding.rule for finding in lint(data)} == {"jump-table"}
    reasons = {f.name: f.untouchable for f in read(data).unit.functions}
    assert reasons["first"] == "section xdp stays as it is: a jump table that leads out of its function"
    assert reasons["outside"] is None


def test_an_undamaged_table_is_no_finding() -> None:
    same = table_with(compiled("-g0"), lambda elf, table: put(table, 3, labels(elf)[3]))
    assert lint(same) == ()
    assert same == compiled("-g0")


def with_symbol(data: bytes, **fields: int) -> bytes:
    elf = parse(data)

    def changed(symbol: Symbol) -> Symbol:
        return replace(symbol, **fields) if symbol.name.startswith("BPF.JT") else symbol  # type: ignore[arg-type]

    return serialise(replace(elf, symbols=tuple(changed(symbol) for symbol in elf.symbols)))


@pytest.mark.parametrize("fields", [{"size": 188}, {"size": 0}, {"value": 4}, {"size": 200}])
def test_tables_that_libbpf_refuses_leave_the_object_alone(fields: dict[str, int]) -> None:
    data = with_symbol(compiled("-g0"), **fields)
    assert "jump-table" in {finding.rule for finding in lint(data)}
    assert isinstance(read_object(data), Untouched)
    assert isinstance(read_object(with_symbol(compiled("-g0"), size=192)), Object)


def test_a_reference_into_the_middle_of_a_table_is_found() -> None:
    data = with_symbol(compiled("-g0"), value=8, size=184)
    elf = parse(data)
    assert jump_tables.table_sizes(elf) == {8: 184}
    assert lint(data) == ()  # the load names the symbol, so it is a table of one entry less
    index = next(i for i, s in enumerate(elf.sections) if s.name == "xdp")
    table = elf.relocation_sections()[index]
    number = next(n for n, s in enumerate(elf.symbols) if s.name.startswith("BPF.JT"))
    entry = next(e for e in parse_relocations(elf, table) if e.symbol == number)
    code = bytearray(elf.sections[index].data)
    code[entry.offset + 4] = 8
    spoilt = serialise(with_sections(elf, {index: bytes(code)}))
    assert [(finding.rule, finding.subject) for finding in lint(spoilt)] == [("jump-table", "many")]
    assert "into .jumptables" in str(read(spoilt).unit.function("first").untouchable)


def test_a_table_without_a_computed_jump_freezes_its_section() -> None:
    elf = parse(compiled("-g0"))
    index = next(i for i, s in enumerate(elf.sections) if s.name == "xdp")
    code = elf.sections[index].data
    at = next(at for at in range(start(elf, "many"), len(code), 8) if code[at] == 0x0D)
    exit_instead = code[:at] + bytes.fromhex("9500000000000000") + code[at + 8 :]
    found = read(serialise(with_sections(elf, {index: exit_instead})))
    assert "without computed jumps" in str(found.unit.function("first").untouchable)
    odd = code[: at + 4] + b"\1" + code[at + 5 :]  # an immediate: no such instruction
    found = read(serialise(with_sections(elf, {index: odd})))
    assert "not in the table" in str(found.unit.function("first").untouchable)


def test_relocated_tables_are_not_understood() -> None:
    elf = parse(compiled("-g0"))
    index, table = elf.section_index(".jumptables"), elf.section_index(".rel.rodata")
    assert index is not None
    assert table is not None
    sections = list(elf.sections)
    sections[table] = replace(sections[table], info=index).with_data(relocation_bytes((), "little"))
    assert read_object(serialise(replace(elf, sections=tuple(sections)))) == Untouched(".jumptables has relocations")


def test_functions_have_no_blocks_and_say_so() -> None:
    def of(name: str) -> Function:
        return read(compiled()).unit.function(name)

    assert of("many").blocks == ()
    assert of("first").blocks
