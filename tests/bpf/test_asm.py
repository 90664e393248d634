"""The text form: exact lines, round trips for every row, and exact sentences for bad input."""

from __future__ import annotations

import random

import pytest

from tests.bpf.random_insns import random_insn
from verifier_model.bpf.asm import AsmError, parse_function, parse_insns, print_function, print_insn
from verifier_model.bpf.asm_forms import FORMS
from verifier_model.bpf.insn import Insn, Ref, RefKind, label, make
from verifier_model.bpf.isa import BY_NAME, ROWS, Row
from verifier_model.bpf.unit import Block

SEED = 2501

# Each line was written by hand from kernel/bpf/disasm.c.
LINES: tuple[tuple[Insn, str], ...] = (
    (make("ldx_w", 1, 2, off=4), "r1 = *(u32 *)(r2 +4)"),
    (make("ldsx_b", 1, 2, off=-1), "r1 = *(s8 *)(r2 -1)"),
    (make("stx_dw", 10, 3, off=-8), "*(u64 *)(r10 -8) = r3"),
    (make("st_h", 10, off=-2, imm=-1), "*(u16 *)(r10 -2) = -1"),
    (make("add32_imm", 1, imm=7), "w1 += 7"),
    (make("add64_reg", 1, 2), "r1 += r2"),
    (make("sdiv64_imm", 1, imm=3), "r1 s/= 3"),
    (make("smod32_reg", 1, 3), "w1 s%= w3"),
    (make("arsh64_imm", 1, imm=3), "r1 s>>= 3"),
    (make("mov64_reg", 1, 1), "r1 = r1"),
    (make("mov32_reg", 1, 2), "w1 = w2"),
    (make("mov64_imm", 0, imm=-1), "r0 = -1"),
    (make("movsx8_64", 1, 2), "r1 = (s8)r2"),
    (make("movsx16_32", 1, 2), "w1 = (s16)w2"),
    (make("movsx32_64", 1, 2), "r1 = (s32)r2"),
    (make("neg32", 4), "w4 = -w4"),
    (make("neg64", 4), "r4 = -r4"),
    (make("be16", 0), "r0 = be16 r0"),
    (make("le64", 0), "r0 = le64 r0"),
    (make("bswap32", 9), "r9 = bswap32 r9"),
    (make("cast_kernel", 1, 2), "r1 = addr_space_cast(r2, 0, 1)"),
    (make("cast_user", 1, 2), "r1 = addr_space_cast(r2, 1, 0)"),
    (make("atomic_add_dw", 1, 2), "lock *(u64 *)(r1 +0) += r2"),
    (make("atomic_xor_w", 1, 2, off=-4), "lock *(u32 *)(r1 -4) ^= r2"),
    (make("atomic_add_fetch_dw", 1, 2), "r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)"),
    (make("atomic_or_fetch_w", 1, 2), "r2 = atomic_fetch_or((u32 *)(r1 +0), r2)"),
    (make("atomic_xchg_dw", 1, 2), "r2 = atomic64_xchg((u64 *)(r1 +0), r2)"),
    (make("atomic_cmpxchg_w", 1, 2), "r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)"),
    (make("atomic_cmpxchg_dw", 1, 0), "r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r0)"),
    (make("load_acquire_b", 1, 2, off=3), "r1 = load_acquire((u8 *)(r2 +3))"),
    (make("store_release_dw", 1, 2, off=-8), "store_release((u64 *)(r1 -8), r2)"),
    (make("jgt32_imm", 1, imm=7, ref=label("L3")), "if w1 > 0x7 goto L3"),
    (make("jeq64_imm", 1, imm=-1, ref=label("L3")), "if r1 == 0xffffffff goto L3"),
    (make("jsle64_reg", 1, 2, ref=label("L3")), "if r1 s<= r2 goto L3"),
    (make("jset32_reg", 1, 2, ref=label("L3")), "if w1 & w2 goto L3"),
    (make("ja", ref=label("L1")), "goto L1"),
    (make("gotol", ref=label("L1")), "gotol L1"),
    (make("may_goto", ref=label("L1")), "may_goto L1"),
    (make("ja", ref=label("r1")), 'goto "r1"'),
    (make("ja", ref=label("a+8")), 'goto "a+8"'),
    (make("ld_abs_h", imm=12), "r0 = *(u16 *)skb[12]"),
    (make("ld_ind_w", src=6, imm=-12), "r0 = *(u32 *)skb[r6 + -12]"),
    (make("call_helper", imm=12), "call 12"),
    (make("call_local", imm=-3), "call pc-3"),
    (make("call_kfunc", imm=1234, off=2), "call kfunc(1234, 2)"),
    (make("exit"), "exit"),
    (make("lddw_constant", 1, imm=0x1122334455667788), "r1 = 0x1122334455667788 ll"),
    (make("lddw_map_idx_value", 1, imm=0x800000003), "r1 = map_idx_value(0x800000003) ll"),
    (make("lddw_constant", 1, ref=Ref(RefKind.MAP, "flows")), "r1 = map[flows] ll"),
    (make("lddw_constant", 1, ref=Ref(RefKind.DATA, ".rodata", 8)), "r1 = data[.rodata+8] ll"),
    (make("lddw_constant", 1, ref=Ref(RefKind.DATA, ".rodata.str1.1", -8)), "r1 = data[.rodata.str1.1-8] ll"),
    (make("lddw_constant", 1, ref=Ref(RefKind.EXTERN, "jiffies")), "r1 = extern[jiffies] ll"),
    (make("lddw_constant", 1, ref=Ref(RefKind.FUNCTION, "callback")), "r1 = fn[callback] ll"),
    (make("lddw_map_fd", 1, ref=Ref(RefKind.MAP, "xdp/a map", 4)), 'r1 = map_fd(map["xdp/a map"+4]) ll'),
    (make("call_local", ref=Ref(RefKind.FUNCTION, "parse")), "call fn[parse]"),
    (make("call_local", ref=Ref(RefKind.EXTERN, "bpf_rcu_read_lock")), "call extern[bpf_rcu_read_lock]"),
    (make("call_kfunc", ref=Ref(RefKind.EXTERN, "bpf_rcu_read_lock")), "call kfunc[bpf_rcu_read_lock]"),
)


@pytest.mark.parametrize(("insn", "text"), LINES, ids=[text for _, text in LINES])
def test_exact_line(insn: Insn, text: str) -> None:
    assert print_insn(insn) == text
    assert parse_insns(text) == (insn,)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_every_row_survives_print_and_parse(row: Row) -> None:
    rng = random.Random(f"{SEED} {row.name}")
    for _ in range(20):
        insn = random_insn(row, rng)
        text = print_insn(insn)
        assert parse_insns(text) == (insn,), f"seed {SEED}: {text}"


def test_every_form_with_a_symbol_survives() -> None:
    rng = random.Random(SEED)
    seen = 0
    for name, kind, has_addend in FORMS:
        if kind is None or kind is RefKind.LABEL:
            continue
        ref = Ref(kind, rng.choice(("flows", ".bss", "r1", "w9", "a b", 'q"\\', "é", "ll", "x-1")), 24 * has_addend)
        insn = Insn(BY_NAME[name], 7 if "dst" in BY_NAME[name].uses else 0, ref=ref)
        assert parse_insns(print_insn(insn)) == (insn,)
        seen += 1
    assert seen == 2 * 4 * 7 + 2 * 4 + 2


def test_different_instructions_have_different_text() -> None:
    rng = random.Random(SEED)
    insns = {random_insn(row, rng) for row in ROWS for _ in range(20)}
    assert len({print_insn(insn) for insn in insns}) == len(insns)


def test_tolerated_spellings_and_comments() -> None:
    text = "r1=*(u32*)(r2 + 4) ; a comment\n\n  if w1 > 7 goto L3\nw1 = 0xffffffff\nr0 = *(u8 *)skb[r6+12]"
    assert [print_insn(insn) for insn in parse_insns(text)] == [
        "r1 = *(u32 *)(r2 +4)",
        "if w1 > 0x7 goto L3",
        "w1 = -1",
        "r0 = *(u8 *)skb[r6 + 12]",
    ]


FUNCTION = """\
entry:
  r0 = 1
  if r1 > 0x7 goto out
B2:
  r0 = 2
out:
last:
  exit
"""


def test_function_round_trip() -> None:
    function = parse_function(FUNCTION, name="g", section="xdp", program_type="xdp")
    assert print_function(function) == FUNCTION
    assert [block.label for block in function.blocks] == ["entry", "B2", "out", "last"]
    assert function.block("out").insns == ()
    assert (function.name, function.section, function.program_type) == ("g", "xdp", "xdp")


def test_unlabelled_code_gets_fresh_labels() -> None:
    function = parse_function("r0 = 0\nif r1 == 0x0 goto B2\nr0 = 1\nB2:\nexit")
    assert [block.label for block in function.blocks] == ["B0", "B2_", "B2"]


def test_blocks_at_the_end_and_of_nothing() -> None:
    assert parse_function("").blocks == ()
    assert parse_function("a:\nb:").blocks == (Block("a", ()), Block("b", ()))
    assert parse_function("exit\nb:").blocks == (Block("B0", (make("exit"),)), Block("b", ()))


BAD = (
    ("r1 => 5", "line 1, column 5: unexpected '>' after '='"),
    ("r1 = r2\nr1 =", "line 2, column 5: the instruction is not complete after '='"),
    ("foo", "line 1, column 1: unexpected 'foo' at the start of the instruction"),
    ("r1 += w2", "line 1, column 7: unexpected 'w2' after '+='"),
    ("w1 = r2", "line 1, column 6: unexpected 'r2' after '='"),
    ("r11 = 5", "line 1, column 1: there is no register r11; they end at r10"),
    ("w1 = w12", "line 1, column 6: there is no register w12; they end at w10"),
    ("r1 = 2147483648", "line 1, column 6: 2147483648 does not fit into 32 bits signed"),
    ("r1 = 0xffffffff", "line 1, column 6: 0xffffffff does not fit into 32 bits signed"),
    ("w1 = 4294967296", "line 1, column 6: 4294967296 does not fit into 32 bits"),
    ("w1 = -2147483649", "line 1, column 6: -2147483649 does not fit into 32 bits"),
    ("r1 = 0x10000000000000000 ll", "line 1, column 6: 0x10000000000000000 does not fit into 64 bits"),
    ("r1 = *(u32 *)(r2 +32768)", "line 1, column 18: +32768 does not fit into 16 bits signed"),
    ("r1 = *(u32 *)(r2)", "line 1, column 17: unexpected ')' after 'r2'"),
    ("r1 = *(s64 *)(r2 +0)", "line 1, column 8: unexpected 's64' after '('"),
    ("r1 = be16 r2", "line 1, column 11: r2 stands where r1 is needed"),
    ("w1 = -w2", "line 1, column 7: w2 stands where w1 is needed"),
    ("r3 = atomic64_xchg((u64 *)(r1 +0), r2)", "line 1, column 36: r2 stands where r3 is needed"),
    ("r1 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)", "line 1, column 6: unexpected 'atomic_cmpxchg' after '='"),
    ("r1 = atomic64_xchg((u32 *)(r1 +0), r2)", "line 1, column 21: unexpected 'u32' after '('"),
    ("r1 = (s32)r2 r3", "line 1, column 14: unexpected 'r3' after 'r2'"),
    ("w1 = (s32)w2", "line 1, column 7: unexpected 's32' after '('"),
    ("r1 = addr_space_cast(r2, 1, 1)", "line 1, column 29: unexpected '1' after ','"),
    ("if r1 > 7 goto", "line 1, column 15: the instruction is not complete after 'goto'"),
    ("if r1 > 7 goto r3", "line 1, column 16: unexpected 'r3' after 'goto'"),
    ("if r1 > w3 goto x", "line 1, column 9: unexpected 'w3' after '>'"),
    ("goto ?", "line 1, column 6: '?' is no part of an instruction"),
    ("call fn[]", "line 1, column 9: unexpected ']' after '['"),
    ('call fn["\\x"]', "line 1, column 10: the quoted name is not a JSON string"),
    ("L1:", "line 1, column 1: unexpected 'L1' at the start of the instruction"),
    ("exit exit", "line 1, column 6: unexpected 'exit' after 'exit'"),
)


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text for text, _ in BAD])
def test_bad_line(text: str, message: str) -> None:
    with pytest.raises(AsmError) as caught:
        parse_insns(text)
    assert str(caught.value) == message


BAD_FUNCTIONS = (
    ("goto L9\nexit", "line 1, column 6: label L9 is not defined"),
    ("a:\nexit\n a:\nexit", "line 3, column 2: label a is already defined at line 1"),
    ("r1:\nexit", "line 1, column 3: unexpected ':' after 'r1'"),
)


@pytest.mark.parametrize(("text", "message"), BAD_FUNCTIONS)
def test_bad_function(text: str, message: str) -> None:
    with pytest.raises(AsmError) as caught:
        parse_function(text)
    assert str(caught.value) == message


UNPRINTABLE = (
    make("lddw_constant", 1, ref=label("L1")),
    make("lddw_constant", 1, imm=5, ref=Ref(RefKind.MAP, "m")),
    make("call_helper", ref=Ref(RefKind.FUNCTION, "f")),
    make("call_kfunc", ref=Ref(RefKind.MAP, "m")),
    make("ja", ref=Ref(RefKind.LABEL, "L1", 8)),
)


@pytest.mark.parametrize("insn", UNPRINTABLE, ids=[str(i) for i in range(len(UNPRINTABLE))])
def test_what_has_no_text_form_is_refused(insn: Insn) -> None:
    with pytest.raises(ValueError, match="has no text form"):
        print_insn(insn)


def test_branch_without_a_target_prints_but_does_not_parse() -> None:
    text = print_insn(make("jgt64_imm", 1, imm=7))
    assert text == "if r1 > 0x7 goto ?"
    with pytest.raises(AsmError):
        parse_insns(text)
