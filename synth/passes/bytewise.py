"""Eight-byte values as bytes, known or named, and what plain bit operations do to them."""

from __future__ import annotations

from typing import Final

Value = tuple[int, ...]
WORD: Final = 8
FIRST_NAME: Final = 256


def constant_of(value: Value) -> int | None:
    """The unsigned number that all eight bytes spell, or None."""
    if any(byte >= FIRST_NAME for byte in value):
        return None
    return int.from_bytes(bytes(value), "little")


def value_of(number: int) -> Value:
    return tuple((number & (1 << 64) - 1).to_bytes(WORD, "little"))


def bytewise(op: str, size: int, dst: Value, src: Value) -> tuple[int | None, ...] | None:
    """Each result byte where it is plain from the operands' bytes; None in a place (or as a whole) where it is not."""
    if op == "mov":
        return src
    if op in ("and", "or", "xor"):
        return tuple(_bit_op(op, a, b) for a, b in zip(dst, src, strict=True))
    if op not in ("lsh", "rsh"):
        return None
    count = constant_of(src + (0,) * (WORD - size))
    if count is None:
        return None
    whole, part = divmod(count % (size * 8), 8)
    if part == 0:
        return (0,) * whole + dst[: size - whole] if op == "lsh" else dst[whole:] + (0,) * whole
    if op == "lsh":
        return (0,) * whole + (None,) * (size - whole)
    return (None,) * (size - whole) + (0,) * whole


def _bit_op(op: str, a: int, b: int) -> int | None:
    if a < FIRST_NAME and b < FIRST_NAME:
        return {"and": a & b, "or": a | b, "xor": a ^ b}[op]
    if b < FIRST_NAME:
        a, b = b, a
    if a >= FIRST_NAME:
        return (0 if op == "xor" else a) if a == b else None
    if op == "and":
        return {0: 0, 0xFF: b}.get(a)
    return b if a == 0 else 0xFF if a == 0xFF and op == "or" else None
