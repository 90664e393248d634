"""The pass plugin: what it records, when that counts, and that the user's compilation does not notice."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from llvm_bridge.elf import ObjectError, parse, serialise, with_symbols
from llvm_bridge.facts_section import NAME, find, parse_record, without_section
from llvm_bridge.invocation import Job, jobs
from llvm_bridge.lint import lint
from llvm_bridge.object import Object
from llvm_bridge.plugin_facts import NoFacts, facts_for, second_object
from llvm_bridge.reader import read_object, without_claims
from llvm_bridge.toolchain import find_plugin
from llvm_bridge.writer import write_object
from object_stage import optimise_bytes
from synth.settings import Settings
from verifier_model.bpf.unit import AccessFacts

PLAIN = AccessFacts(has_volatile=False, has_atomic=False, has_barrier=False)
VOLATILE = AccessFacts(has_volatile=True, has_atomic=False, has_barrier=False)
ATOMIC = AccessFacts(has_volatile=False, has_atomic=True, has_barrier=False)
BARRIER = AccessFacts(has_volatile=False, has_atomic=False, has_barrier=True)

# Each function beside its twin; `direct` and `copied` hold volatile accesses when HIDE is volatile.
SOURCE = """
#define SEC(name) __attribute__((section(name), used))
struct large { long words[4]; };
int load(int *p) { return *p; }
int load_volatile(volatile int *p) { return *p; }
void store(int *p) { *p = 1; }
void store_volatile(volatile int *p) { *p = 1; }
void copy(struct large *a, struct large *b) { *a = *b; }
void copy_volatile(volatile struct large *a, struct large *b) { *a = *b; }
void add(long *p) { *p += 1; }
void add_atomically(long *p) { __sync_fetch_and_add(p, 1); }
int free_copy(int *p) { int x = *p; return x; }
int pinned_copy(int *p) { int x = *p; asm volatile("" : "+r"(x)); return x; }
int fenced(int *p) { int x = *p; asm volatile("" ::: "memory"); return x + *p; }
static inline int inner(volatile int *p) { return *p; }
int outer(int *p) { return inner(p); }
static __attribute__((noinline)) int apart(volatile int *p) { return *p; }
int caller(int *p) { return apart(p); }
int called_otherwise(int *p) __asm__("symbol_name");
int called_otherwise(int *p) { return *p; }
SEC("xdp") int program(int *context) { return *context; }
char _license[] SEC("license") = "GPL";
"""
EXPECTED = {
    "load": PLAIN,
    "load_volatile": VOLATILE,
    "store": PLAIN,
    "store_volatile": VOLATILE,
    "copy": PLAIN,
    "copy_volatile": VOLATILE,
    "add": PLAIN,
    "add_atomically": ATOMIC,
    "free_copy": PLAIN,
    "pinned_copy": BARRIER,
    "fenced": BARRIER,
    "outer": VOLATILE,
    "apart": VOLATILE,
    "caller": PLAIN,
    "symbol_name": PLAIN,
    "program": PLAIN,
}
FORGED = 'const char forged[] __attribute__((section(".k2.facts"), used)) = "k2 facts 2\\n0load_volatile";\n'
SECONDS = 60


def needs(*majors: int) -> pytest.MarkDecorator:
    return pytest.mark.needs(*(f"clang-{major}" for major in majors), *(f"plugin-{major}" for major in majors))


EVERY_CLANG = [pytest.param(major, marks=needs(major)) for major in (14, 16, 19)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compile_here(text: str, *options: str, major: int = 19, name: str = "x") -> tuple[bytes, Job]:
    """The user's object of the text, and the job that made it."""
    Path(f"{name}.c").write_text(text)
    clang = shutil.which(f"clang-{major}")
    assert clang is not None
    arguments = ["-target", "bpf", "-mcpu=v3", *(options or ("-O2", "-g")), "-c", f"{name}.c", "-o", f"{name}.o"]
    subprocess.run([clang, *arguments], check=True, timeout=SECONDS)
    (job,) = jobs([clang], arguments)
    return Path(f"{name}.o").read_bytes(), job


def contents(data: bytes) -> tuple[object, ...]:
    """All of an object but where things lie in the file and in the string tables."""
    elf = parse(data)
    names = [section.name for section in elf.sections]
    sections = [(s.name, s.type, s.flags, s.data) for s in elf.sections if s.name not in (".strtab", ".symtab")]
    symbols = [(s.name, s.type, s.binding, s.value, s.size, names[s.section % len(names)]) for s in elf.symbols]
    return sections, symbols


# ---- what is recorded


@pytest.mark.parametrize("options", ["-O2", "-O2 -g", "-Os", "-O0"])
@pytest.mark.parametrize("major", EVERY_CLANG)
def test_every_twin_is_told_from_the_other(folder: Path, major: int, options: str) -> None:
    data, job = compile_here(SOURCE, *options.split(), major=major)
    facts = facts_for(data, second_object(job, SECONDS))
    # At -O0 nothing is inlined: the volatile access stays in its own function.
    assert facts == (EXPECTED | {"inner": VOLATILE, "outer": PLAIN} if options == "-O0" else EXPECTED)
    source = read_object(data, 3, facts)
    assert isinstance(source, Object)
    assert {function.name: function.accesses for function in source.unit.functions} == facts
    without = read_object(data, 3)
    assert isinstance(without, Object)
    assert all(function.accesses is None for function in without.unit.functions)


@needs(19)
def test_big_endian_code_and_kept_offsets(folder: Path) -> None:
    """Accesses through preserve_static_offset are calls until code generation; their volatility is an operand."""
    text = """struct context { int a, b; } __attribute__((preserve_static_offset));
int load(struct context *c) { return c->b; }
int load_volatile(volatile struct context *c) { return c->b; }
void store(struct context *c) { c->b = 1; }
void store_volatile(volatile struct context *c) { c->b = 1; }
"""
    data, job = compile_here(text, "-O2", "--target=bpfeb")
    assert facts_for(data, second_object(job, SECONDS)) == {
        name: EXPECTED[name] for name in ("load", "load_volatile", "store", "store_volatile")
    }


@needs(19)
def test_assembly_at_file_scope_may_concern_every_function(folder: Path) -> None:
    data, job = compile_here('asm(".globl elsewhere");\nint load(int *p) { return *p; }\n')
    assert facts_for(data, second_object(job, SECONDS)) == {"load": BARRIER}


@needs(19)
def test_record_has_neither_symbol_nor_type(folder: Path) -> None:
    data, job = compile_here(SOURCE)
    second = second_object(job, SECONDS)
    elf, plain = parse(second), parse(data)
    where = find(elf)
    assert where is not None and set(parse_record(elf.sections[where].data)) == set(EXPECTED)
    names = [[symbol.name for symbol in each.symbols if symbol.name] for each in (elf, plain)]
    assert names[0] == names[1]
    types = plain.section_index(".BTF")
    assert types is not None
    assert elf.sections[elf.section_index(".BTF") or 0].data == plain.sections[types].data


# ---- when it counts


@needs(19)
def test_other_code_is_refused(folder: Path) -> None:
    data, _ = compile_here("int f(int *p) { return *p; }\n", name="a")
    _, job = compile_here("int f(int *p) { return *p + 1; }\n", name="b")
    with pytest.raises(NoFacts, match="changed the code"):
        facts_for(data, second_object(job, SECONDS))
    renamed, _ = compile_here("int g(int *p) { return *p + 1; }\n", name="c")
    with pytest.raises(NoFacts, match="changed the code"):
        facts_for(renamed, second_object(job, SECONDS))


@needs(19)
def test_calls_of_other_functions_are_other_code(folder: Path) -> None:
    text = "int one(void); int two(void); int f(void) {{ return {}(); }}\n"
    data, _ = compile_here(text.format("one"), name="a")
    other, job = compile_here(text.format("two"), name="b")
    assert parse(data).sections[parse(data).section_index(".text") or 0].data in other
    with pytest.raises(NoFacts, match="changed the code"):
        facts_for(data, second_object(job, SECONDS))


@needs(19)
@pytest.mark.parametrize("options", [("-O2",), ("-O2", "-g")])
def test_forged_record_in_the_source_spoils_the_facts(folder: Path, options: tuple[str, ...]) -> None:
    data, job = compile_here(SOURCE + FORGED, *options)
    second = second_object(job, SECONDS)
    for candidate in (second, second_object(compile_here(SOURCE, *options, name="y")[1], SECONDS)):
        with pytest.raises(NoFacts, match="of its own"):
            facts_for(data, candidate)
    # The compiler's own pass steps back: what is there is the forger's alone.
    elf = parse(second)
    assert elf.sections[find(elf) or 0].data == parse(data).sections[find(parse(data)) or 0].data


@needs(19)
def test_no_plugin_no_facts(folder: Path) -> None:
    data, job = compile_here(SOURCE)
    with pytest.raises(NoFacts, match="recorded nothing"):
        facts_for(data, data)
    with pytest.raises(NoFacts, match="cannot be read"):
        facts_for(data, data[:100])
    with pytest.raises(NoFacts, match="failed"):
        second_object(job._replace(words=("/bin/false", *job.words[1:])), SECONDS)
    with pytest.raises(NoFacts, match="not be started"):
        second_object(job._replace(words=("/nowhere", *job.words[1:])), SECONDS)
    slow = folder / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(NoFacts, match="too long"):
        second_object(job._replace(words=(str(slow), *job.words[1:])), 1)


@needs(14, 16, 19)
def test_plugin_of_another_major_is_never_taken(folder: Path) -> None:
    """By name none is found; one under a false name is refused by itself or by the linker."""
    _, job = compile_here(SOURCE)
    assert job.llvm == 19
    with pytest.raises(NoFacts, match="no plugin for LLVM 22"):
        second_object(job._replace(llvm=22), SECONDS)
    with pytest.raises(NoFacts, match="does not say"):
        second_object(job._replace(llvm=None), SECONDS)
    for host in (14, 16, 19):
        _, job = compile_here(SOURCE, major=host)
        for major in (14, 16, 19):
            path = find_plugin(major)
            assert path is not None
            shutil.copy(path, folder / f"k2_plugin_llvm{host}.so")
            if major == host:
                assert facts_for(Path("x.o").read_bytes(), second_object(job, SECONDS, str(folder))) == EXPECTED
                continue
            with pytest.raises(NoFacts, match="failed"):
                second_object(job, SECONDS, str(folder))


@needs(19)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("-O2 -g -gsplit-dwarf", "split-dwarf"),
        ("-O2 -fsave-optimization-record", "opt-record"),
        ("-O2 -ftime-trace", "ftime-trace"),
        ("-O2 -save-temps", "not clang's own"),
        ("-O2 -Xclang -disable-llvm-passes", "disable-llvm-passes"),
        ("-O2 -mllvm -stats", "-stats"),
        ("-O2 -fstack-usage", "-stack-usage-file"),
        ("-O2 -Xclang -fdump-record-layouts", "-fdump-record-layouts"),
    ],
)
def test_jobs_that_cannot_be_repeated_silently_are_not(folder: Path, options: str, reason: str) -> None:
    _, job = compile_here("int f(int *p) { return *p; }\n", *options.split())
    before = sorted(folder.iterdir())
    with pytest.raises(NoFacts, match=reason):
        second_object(job, SECONDS)
    assert sorted(folder.iterdir()) == before


@needs(19)
def test_source_from_a_stream_is_not_read_again(folder: Path) -> None:
    """A header that is gone at the second reading might have held the very word volatile."""
    text = "#ifndef HIDE\n#define HIDE\n#endif\nint f(HIDE int *p) { return *p; }\n"
    (folder / "header.h").write_text("#define HIDE volatile\n")
    data, job = compile_here(text, "-O2", "-include", "header.h")
    assert facts_for(data, second_object(job, SECONDS)) == {"f": VOLATILE}
    (folder / "header.h").unlink()
    os.mkfifo(folder / "header.h")
    with pytest.raises(NoFacts, match="from a stream"):
        second_object(job, SECONDS)
    with pytest.raises(NoFacts, match="from a stream"):
        second_object(job._replace(words=(*job.words[:-1], "-")), SECONDS)


@pytest.mark.parametrize(
    "damage",
    [b"", b"k2 facts 3\n", b"k2 facts 2\n0f", b"k2 facts 2\n8f\0", b"k2 facts 2\n0\0", b"k2 facts 2\n0f\x001f\0"],
)
def test_record_of_another_form_is_refused(damage: bytes) -> None:
    with pytest.raises(ObjectError, match="not of our form"):
        parse_record(damage)
    assert parse_record(b"k2 facts 2\n0f\x005g\0") == {"f": PLAIN, "g": AccessFacts(True, False, True)}


# ---- forged records in input objects


def written(data: bytes) -> bytes:
    """What reader and writer make of an object that nobody changes."""
    source = read_object(data, 3)
    assert isinstance(source, Object)
    assert all(function.accesses is None for function in source.unit.functions)
    new = write_object(source, source.unit)
    assert isinstance(new, bytes)
    return new


@pytest.mark.needs("clang-19", "llvm-objcopy-19")
def test_forged_section_goes_and_nothing_else(folder: Path) -> None:
    plain, _ = compile_here(SOURCE)
    (folder / "record").write_bytes(b"k2 facts 2\n0load_volatile\0")
    for flags in ("alloc,readonly,data,contents", "readonly,debug,contents"):
        command = ["llvm-objcopy-19", f"--add-section={NAME}=record", f"--set-section-flags={NAME}={flags}"]
        subprocess.run([*command, "x.o", "forged.o"], check=True, timeout=SECONDS)
        forged = (folder / "forged.o").read_bytes()
        assert contents(forged) != contents(plain) == contents(written(forged))
    assert written(plain) == plain


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize("options", [("-O2",), ("-O0",)])
@pytest.mark.parametrize("word", ["", "static "])
def test_forged_variable_goes_with_its_symbol(folder: Path, options: tuple[str, ...], word: str) -> None:
    plain, _ = compile_here(SOURCE, *options)
    forged, _ = compile_here(SOURCE + word + FORGED, *options)
    assert contents(forged) != contents(plain)
    sections, symbols = contents(written(forged))
    assert isinstance(sections, list)
    theirs, expected = contents(plain)
    assert isinstance(theirs, list)
    # .llvm_addrsig counts symbols that both have, in whatever order clang numbered them.
    assert [entry[:3] for entry in sections] == [entry[:3] for entry in theirs]
    assert [e for e in sections if e[0] != ".llvm_addrsig"] == [e for e in theirs if e[0] != ".llvm_addrsig"]
    assert symbols == expected


@pytest.mark.needs("clang-19", "bpftool")
@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
def test_forged_variable_with_types_leaves_a_loadable_object(folder: Path, target: str) -> None:
    """libbpf refuses types of a section that is missing; other sections of data keep theirs."""
    more = 'int before SEC(".bss.one"); int after SEC(".data.two") = 1;\n'
    text = SOURCE.replace('__asm__("symbol_name")', "") + more  # bpftool would look for the symbol's name in BTF
    forged, _ = compile_here(text + FORGED, "-O2", "-g", f"--target={target}")
    plain, _ = compile_here(text, "-O2", "-g", f"--target={target}")
    new = written(forged)
    assert find(parse(new)) is None and NAME.encode() not in types_of(new) and NAME.encode() in types_of(forged)
    assert (
        types_of(new).count(b"DATASEC") == types_of(plain).count(b"DATASEC") == types_of(forged).count(b"DATASEC") - 1
    )
    for name in (".text", "xdp", ".rel.text", ".data.two", "license"):
        assert section(new, name) == section(plain, name)
    if target == "bpfel":
        (folder / "new.o").write_bytes(new)
        for command in ("gen skeleton new.o", "gen object linked.o new.o"):
            subprocess.run(["bpftool", *command.split()], check=True, capture_output=True, timeout=SECONDS)
    assert without_section(new) == new


def types_of(data: bytes) -> bytes:
    Path("types.o").write_bytes(data)
    command = ["bpftool", "btf", "dump", "file", "types.o"]
    return subprocess.run(command, check=True, capture_output=True, timeout=SECONDS).stdout


def section(data: bytes, name: str) -> bytes | None:
    elf = parse(data)
    index = elf.section_index(name)
    return None if index is None else elf.sections[index].data


@pytest.mark.needs("clang-19")
def test_forged_record_leaves_an_object_that_is_otherwise_left_alone(folder: Path) -> None:
    """A copy of the bitcode keeps the object from being changed; the claim goes all the same."""
    bitcode = 'const char as_bitcode[] __attribute__((section(".llvmbc"), used)) = "BC";\n'
    forged, _ = compile_here(SOURCE + FORGED + bitcode)
    plain, _ = compile_here(SOURCE + bitcode)
    kept = optimise_bytes(forged, Settings())
    assert find(parse(forged)) is not None and find(parse(kept.data)) is None
    assert kept.data == without_claims(forged)
    assert {"a section of the object that claims to be our plugin's was removed"} < set(kept.record.counters)
    assert [section.name for section in parse(kept.data).sections] == [s.name for s in parse(plain).sections]
    assert lint(kept.data) == ()
    alone = optimise_bytes(plain, Settings())
    assert alone.data == plain
    assert len(alone.record.counters) == 1
    # What we do not know may hold the numbers of sections: then nothing is renumbered.
    elf = parse(forged)
    number = elf.section_index(".llvmbc")
    assert number is not None
    group = replace(elf.sections[number], type=17)
    unknown = serialise(replace(elf, sections=(*elf.sections[:number], group, *elf.sections[number + 1 :])))
    assert optimise_bytes(unknown, Settings()).data == unknown == without_claims(unknown)


@pytest.mark.needs("clang-19")
def test_section_that_is_needed_stays_unread(folder: Path) -> None:
    used = SOURCE + 'SEC(".k2.facts") int number; int reads(void) { return number; }\n'
    data, _ = compile_here(used)
    with pytest.raises(ObjectError, match="section that has to go"):
        without_section(data)
    assert written(data) == data
    code, _ = compile_here(SOURCE + 'SEC(".k2.facts") int program_of_that_name(int *p) { return *p; }\n')
    assert without_section(code) == code == written(code)


@needs(19)
def test_damaged_objects_end_in_a_word(folder: Path) -> None:
    """Every mutant is read, refused or left as it is: no other exception comes out."""
    seed = 20261123
    print(f"seed {seed}")
    chance = random.Random(seed)
    forged, _ = compile_here(SOURCE + FORGED)
    data, job = compile_here(SOURCE)
    second = second_object(job, SECONDS)
    for _ in range(150):
        mutant = bytearray(forged)
        for _ in range(chance.randint(1, 4)):
            mutant[chance.randrange(len(mutant))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        read_object(bytes(mutant), 3)
        mutant = bytearray(second)
        mutant[chance.randrange(len(mutant))] ^= 1 << chance.randrange(8)
        try:
            assert set(facts_for(data, bytes(mutant))) <= set(EXPECTED)
        except NoFacts:
            continue


@pytest.mark.needs("clang-19")
def test_lint_of_a_symbol_of_any_size_ends(folder: Path) -> None:
    """The forged section makes the lint run over an input object: a claimed size must not set its length."""
    forged, _ = compile_here(SOURCE + FORGED)
    elf = parse(forged)
    sizes = [replace(s, size=1 << 56) if s.name == "load" else s for s in elf.symbols]
    claims = serialise(with_symbols(elf, tuple(sizes)))
    assert isinstance(lint(claims), tuple)
    assert set(lint(forged)) <= set(lint(claims))
