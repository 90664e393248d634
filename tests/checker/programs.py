"""Tiny programs with the sentence that refuses them (None: accepted), each beside a twin that differs a little.

A line `name:` with two leading dashes (`-- name`) starts a static subprogram.  Map `m` is an array of 16-byte values,
`ring` a ring buffer.
"""

from __future__ import annotations

from typing import NamedTuple

from verifier_model.bpf.asm import parse_function
from verifier_model.bpf.unit import Function, MapDef, Unit

MAPS = {
    "m": MapDef("m", 2, 4, 16, 4),
    "ring": MapDef("ring", 27, 0, 0, 4096),
}


class Case(NamedTuple):
    name: str
    text: str
    refused: str | None
    program_type: str = "xdp"


START = "r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr0 = 0\n"
LOOKUP = "*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\nr1 = map_fd(map[m]) ll\ncall 1\n"
RESERVE = "r1 = map_fd(map[ring]) ll\nr2 = 16\nr3 = 0\ncall 131\n"


def _packet(check: str, access: str, refused: str | None, name: str) -> Case:
    return Case(name, f"{START}r4 = r2\nr4 += 14\n{check}\nout:\nexit\nin:\n{access}\nr0 = 0\nexit\n", refused)


def _falls(check: str, access: str, refused: str | None, name: str) -> Case:
    return Case(name, f"{START}r4 = r2\nr4 += 14\n{check}\n{access}\nr0 = 0\nout:\nexit\n", refused)


LAST, BEYOND, ONE_MORE = "r0 = *(u8 *)(r2 +13)", "r0 = *(u8 *)(r2 +14)", "r0 = *(u8 *)(r2 +15)"
PACKET_CASES = (
    _falls("if r4 > r3 goto out", LAST, None, "beyond the end goes out"),
    _falls("if r4 > r3 goto out", BEYOND, "invalid access to packet", "beyond the end goes out, one byte too far"),
    _falls("if r4 >= r3 goto out", BEYOND, None, "at the end goes out"),
    _falls("if r4 >= r3 goto out", ONE_MORE, "invalid access to packet", "at the end goes out, one byte too far"),
    _falls("if r3 < r4 goto out", LAST, None, "end below goes out"),
    _falls("if r3 < r4 goto out", BEYOND, "invalid access to packet", "end below goes out, one byte too far"),
    _falls("if r3 <= r4 goto out", BEYOND, None, "end at or below goes out"),
    _falls("if r3 <= r4 goto out", ONE_MORE, "invalid access to packet", "end at or below goes out, one too far"),
    _packet("if r4 <= r3 goto in", LAST, None, "up to the end goes in"),
    _packet("if r4 <= r3 goto in", BEYOND, "invalid access to packet", "up to the end goes in, one byte too far"),
    _packet("if r4 < r3 goto in", BEYOND, None, "below the end goes in"),
    _packet("if r4 < r3 goto in", ONE_MORE, "invalid access to packet", "below the end goes in, one byte too far"),
    _packet("if r3 >= r4 goto in", LAST, None, "end at or above goes in"),
    _packet("if r3 > r4 goto in", BEYOND, None, "end above goes in"),
    _packet("if r3 > r4 goto in", ONE_MORE, "invalid access to packet", "end above goes in, one byte too far"),
    _falls("if r4 == r3 goto out", LAST, "invalid access to packet", "equality proves nothing"),
    _packet("if r4 > r3 goto in", LAST, "invalid access to packet", "the wrong side"),
    _falls("if w4 > w3 goto out", LAST, "invalid access to packet", "half a comparison proves nothing"),
    Case(
        "variable header length",
        f"{START}r4 = r2\nr4 += 1\nif r4 > r3 goto out\nr5 = *(u8 *)(r2 +0)\nr5 &= 60\nr2 += r5\nr4 = r2\nr4 += 4\n"
        "if r4 > r3 goto out\nr0 = *(u32 *)(r2 +0)\nout:\nr0 = 0\nexit\n",
        None,
    ),
    Case(
        "variable header length, unchecked",
        f"{START}r4 = r2\nr4 += 1\nif r4 > r3 goto out\nr5 = *(u8 *)(r2 +0)\nr5 &= 60\nr2 += r5\nr0 = *(u32 *)(r2 +0)\n"
        "out:\nr0 = 0\nexit\n",
        "invalid access to packet",
    ),
    Case(
        "packet pointers die when the packet moves",
        f"r6 = r1\n{START}r7 = r2\nr4 = r2\nr4 += 14\nif r4 > r3 goto out\nr1 = r6\nr2 = 0\ncall 44\n"
        f"r0 = *(u8 *)(r7 +0)\n"
        "out:\nr0 = 0\nexit\n",
        "R7 ",
    ),
    Case(
        "packet pointers survive other helpers",
        f"r6 = r1\n{START}r7 = r2\nr4 = r2\nr4 += 14\nif r4 > r3 goto out\ncall 5\nr0 = *(u8 *)(r7 +0)\nout:\n"
        f"r0 = 0\nexit\n",
        None,
    ),
    Case(
        "a socket filter has no packet pointers",
        "r0 = *(u32 *)(r1 +76)\nexit\n",
        "invalid bpf_context",
        "socket_filter",
    ),
)

STACK_CASES = (
    Case(
        "spilled pointer comes back",
        "*(u64 *)(r10 -8) = r1\nr2 = *(u64 *)(r10 -8)\nr0 = *(u32 *)(r2 +0)\nr0 = 0\nexit\n",
        None,
    ),
    Case(
        "half overwritten pointer does not",
        "*(u64 *)(r10 -8) = r1\n*(u32 *)(r10 -8) = 0\nr2 = *(u64 *)(r10 -8)\nr0 = *(u32 *)(r2 +0)\nr0 = 0\nexit\n",
        "invalid mem access 'scalar'",
    ),
    Case("half a pointer", "*(u32 *)(r10 -8) = r1\nr0 = 0\nexit\n", "invalid size of register spill"),
    Case(
        "half a pointer read", "*(u64 *)(r10 -8) = r1\nr0 = *(u32 *)(r10 -8)\nexit\n", "invalid size of register fill"
    ),
    Case("below the frame", "*(u64 *)(r10 -520) = r1\nr0 = 0\nexit\n", "invalid write to stack"),
    Case("at the frame's bottom", "*(u64 *)(r10 -512) = r1\nr0 = 0\nexit\n", None),
    Case("above the frame", "*(u64 *)(r10 +0) = r1\nr0 = 0\nexit\n", "invalid write to stack"),
    Case("misaligned", "*(u64 *)(r10 -12) = r1\nr0 = 0\nexit\n", "misaligned stack access"),
    Case("aligned word", "*(u32 *)(r10 -12) = 1\nr0 = *(u32 *)(r10 -12)\nr0 = 0\nexit\n", None),
    Case(
        "key not written", "r2 = r10\nr2 += -4\nr1 = map_fd(map[m]) ll\ncall 1\nr0 = 0\nexit\n", "invalid indirect read"
    ),
    Case("frame pointer is read only", "r10 = 1\nr0 = 0\nexit\n", "frame pointer is read only"),
    Case("subtraction from the frame", "r2 = r10\nr2 -= 8\nr0 = 0\nexit\n", "subtraction from stack pointer"),
    Case(
        "variable place",
        "r2 = *(u32 *)(r1 +12)\nr2 &= 7\nr3 = r10\nr3 += -8\nr3 += r2\n*(u8 *)(r3 +0) = 1\nr0 = 0\nexit\n",
        None,
    ),
    Case(
        "variable place too far",
        "r2 = *(u32 *)(r1 +12)\nr2 &= 15\nr3 = r10\nr3 += -8\nr3 += r2\n*(u8 *)(r3 +0) = 1\nr0 = 0\nexit\n",
        "invalid write to stack",
    ),
)

MAP_CASES = (
    Case(
        "null check",
        f"{LOOKUP}if r0 == 0 goto out\nr1 = *(u64 *)(r0 +8)\n*(u64 *)(r0 +8) = r1\nout:\nr0 = 0\nexit\n",
        None,
    ),
    Case("no null check", f"{LOOKUP}r1 = *(u64 *)(r0 +8)\nr0 = 0\nexit\n", "map_value_or_null"),
    Case(
        "wrong side of the null check",
        f"{LOOKUP}if r0 != 0 goto out\nr1 = *(u64 *)(r0 +8)\nout:\nr0 = 0\nexit\n",
        "invalid mem access",
    ),
    Case(
        "beyond the value",
        f"{LOOKUP}if r0 == 0 goto out\nr1 = *(u64 *)(r0 +9)\nout:\nr0 = 0\nexit\n",
        "invalid access to map_value",
    ),
    Case(
        "moved before the null check",
        f"{LOOKUP}r0 += 8\nif r0 == 0 goto out\nout:\nr0 = 0\nexit\n",
        "null-check it first",
    ),
    Case(
        "copies share the null check",
        f"{LOOKUP}r6 = r0\nif r0 == 0 goto out\nr1 = *(u64 *)(r6 +0)\nout:\nr0 = 0\nexit\n",
        None,
    ),
    Case(
        "bounded index",
        f"r7 = *(u32 *)(r1 +12)\n{LOOKUP}if r0 == 0 goto out\nif r7 > 8 goto out\nr0 += r7\n"
        f"r1 = *(u64 *)(r0 +0)\nout:\nr0 = 0\nexit\n",
        None,
    ),
    Case(
        "index one too large",
        f"r7 = *(u32 *)(r1 +12)\n{LOOKUP}if r0 == 0 goto out\nif r7 > 9 goto out\nr0 += r7\n"
        f"r1 = *(u64 *)(r0 +0)\nout:\nr0 = 0\nexit\n",
        "invalid access to map_value",
    ),
    Case(
        "a copy bounds the index",
        f"r7 = *(u32 *)(r1 +12)\nr8 = r7\n{LOOKUP}if r0 == 0 goto out\nif r7 > 8 goto out\nr0 += r8\n"
        f"r1 = *(u64 *)(r0 +0)\nout:\nr0 = 0\nexit\n",
        None,
    ),
    Case("bitwise on a pointer", f"{LOOKUP}if r0 == 0 goto out\nr0 &= -8\nout:\nr0 = 0\nexit\n", "prohibited"),
    Case(
        "record submitted",
        f"{RESERVE}if r0 == 0 goto out\n*(u64 *)(r0 +8) = 1\nr1 = r0\nr2 = 0\ncall 132\nout:\nr0 = 0\nexit\n",
        None,
    ),
    Case(
        "record leaked",
        f"{RESERVE}if r0 == 0 goto out\n*(u64 *)(r0 +8) = 1\nout:\nr0 = 0\nexit\n",
        "Unreleased reference",
    ),
    Case(
        "record used after the submission",
        f"{RESERVE}if r0 == 0 goto out\nr6 = r0\nr1 = r0\nr2 = 0\ncall 132\n*(u64 *)(r6 +8) = 1\nout:\nr0 = 0\nexit\n",
        "R6 ",
    ),
)

PLAIN_CASES = (
    Case("returns a number", "r0 = 0\nexit\n", None),
    Case("returns nothing", "exit\n", "R0 !read_ok"),
    Case("reads what a call clobbered", "r3 = 1\ncall 5\nr0 = r3\nexit\n", "R3 !read_ok"),
    Case("keeps what a call keeps", "r6 = 1\ncall 5\nr0 = r6\nexit\n", None),
    Case("division by an immediate zero", "r0 = 1\nr0 /= 0\nexit\n", "div by zero"),
    Case("shift by the width", "r0 = 1\nw0 <<= 32\nexit\n", "invalid shift"),
    Case("shift below the width", "r0 = 1\nr0 <<= 63\nexit\n", None),
    Case("context beyond its end", "r0 = *(u32 *)(r1 +24)\nexit\n", "invalid bpf_context access"),
    Case("context at another width", "r0 = *(u16 *)(r1 +12)\nexit\n", "invalid bpf_context access"),
    Case("context through a moved pointer", "r1 += 12\nr0 = *(u32 *)(r1 +0)\nexit\n", "modified ctx ptr"),
    Case("32-bit arithmetic on a pointer", "w1 += 1\nr0 = 0\nexit\n", "32-bit pointer arithmetic"),
    Case(
        "packet length in 32 bits",
        f"{START}w3 -= w2\nr4 = 0\nr0 = r3\nexit\n",
        None,
    ),
    Case("half a pointer less a number", "r2 = 4\nw1 -= w2\nr0 = 0\nexit\n", None),
    Case("half a pointer and a number", "r2 = 4\nw1 += w2\nr0 = 0\nexit\n", "32-bit pointer arithmetic"),
    Case("a number less half a pointer", "r2 = 4\nw2 -= w1\nr0 = r2\nexit\n", None),
    Case("a number less a pointer", "r2 = 4\nr2 -= r1\nr0 = r2\nexit\n", "subtract pointer from scalar"),
    Case(
        "printk without its last arguments",
        "*(u64 *)(r10 -8) = 0\nr1 = r10\nr1 += -8\nr2 = 8\ncall 6\nr0 = 0\nexit\n",
        None,
    ),
    Case("printk without its first", "r2 = 8\nr1 = r9\ncall 6\nr0 = 0\nexit\n", "R9 !read_ok"),
    Case(
        "no memory of no bytes",
        "r1 = 0\nr2 = 0\n*(u64 *)(r10 -8) = 0\nr3 = r10\nr3 += -8\nr4 = 8\nr5 = 0\ncall 28\nr0 = 0\nexit\n",
        None,
    ),
    Case(
        "no memory of four bytes",
        "r1 = 0\nr2 = 4\n*(u64 *)(r10 -8) = 0\nr3 = r10\nr3 += -8\nr4 = 8\nr5 = 0\ncall 28\nr0 = 0\nexit\n",
        "R1 type=scalar",
    ),
    Case("sum of pointers", "r1 += r10\nr0 = 0\nexit\n", "pointer += pointer"),
    Case("a number is no pointer", "r2 = 4096\nr0 = *(u8 *)(r2 +0)\nexit\n", "invalid mem access 'scalar'"),
    Case("narrow skb field", "r0 = *(u16 *)(r1 +0)\nexit\n", None, "sched_cls"),
    Case("unaligned skb field", "r0 = *(u32 *)(r1 +2)\nexit\n", "invalid bpf_context access", "sched_cls"),
    Case(
        "dead branch is not looked at", "r2 = 1\nr0 = 0\nif r2 == 1 goto out\nr0 = *(u8 *)(r2 +0)\nout:\nexit\n", None
    ),
    Case(
        "live branch is",
        "r2 = 1\nr0 = 0\nif r2 == 2 goto out\nr0 = *(u8 *)(r2 +0)\nout:\nexit\n",
        "invalid mem access 'scalar'",
    ),
    Case("bounded loop", "r0 = 0\nr2 = 0\nagain:\nr0 += r2\nr2 += 1\nif r2 < 10 goto again\nexit\n", None),
    Case("endless loop", "r0 = 0\nr2 = 0\nagain:\nr0 = r2\nif r2 < 10 goto again\nexit\n", "infinite loop detected"),
    Case("unknown helper", "r0 = 0\ncall 99999\nexit\n", "invalid func"),
)

CALL_CASES = (
    Case("static helper", "r2 = 5\ncall fn[sub]\nexit\n-- sub\nr0 = *(u32 *)(r1 +12)\nr0 += r2\nexit\n", None),
    Case("static helper reads what it was not given", "call fn[sub]\nexit\n-- sub\nr0 = r2\nexit\n", "R2 !read_ok"),
    Case(
        "r1 is gone behind the call",
        "call fn[sub]\nr0 = *(u32 *)(r1 +12)\nexit\n-- sub\nr0 = 0\nexit\n",
        "R1 !read_ok",
    ),
    Case(
        "stack pointer handed down",
        "*(u64 *)(r10 -8) = 0\nr1 = r10\nr1 += -8\ncall fn[sub]\nr0 = *(u64 *)(r10 -8)\nr0 = 0\nexit\n"
        "-- sub\n*(u64 *)(r1 +0) = 7\nr0 = 0\nexit\n",
        None,
    ),
    Case(
        "stack pointer handed down, beyond the frame",
        "*(u64 *)(r10 -8) = 0\nr1 = r10\nr1 += -8\ncall fn[sub]\nr0 = 0\nexit\n-- sub\n*(u64 *)(r1 +8) = 7\n"
        "r0 = 0\nexit\n",
        "invalid write to stack",
    ),
    Case(
        "packet pointers handed down",
        f"{START}r1 = r2\nr2 = r3\ncall fn[sub]\nexit\n-- sub\nr0 = 0\nr3 = r1\nr3 += 14\n"
        f"if r3 > r2 goto out\nr0 = *(u8 *)(r1 +13)\nout:\nexit\n",
        None,
    ),
    Case("frame returned", "call fn[sub]\nr0 = 0\nexit\n-- sub\nr0 = r10\nexit\n", "cannot return stack pointer"),
    Case(
        "frames too large together",
        "*(u64 *)(r10 -512) = 0\ncall fn[sub]\nexit\n-- sub\n*(u64 *)(r10 -8) = 0\nr0 = 0\nexit\n",
        "combined stack size",
    ),
)

CASES = (*PACKET_CASES, *STACK_CASES, *MAP_CASES, *PLAIN_CASES, *CALL_CASES)


def unit_of(case: Case) -> tuple[Unit, Function]:
    """The case's functions as a unit, and its program."""
    main, *rest = case.text.split("-- ")
    functions = [parse_function(main, "main", section="prog", program_type=case.program_type)]
    for text in rest:
        name, body = text.split("\n", 1)
        functions.append(parse_function(body, name, is_subprogram=True, is_global=False))
    return Unit(tuple(functions), maps=MAPS, cpu_level=4, license="GPL"), functions[0]
