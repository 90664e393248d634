"""Terms computed with Python integers: for trying random states, and for confirming what the solver says."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from verifier_model.prover.terms import Term, linear_data, mask, reachable

Variable = Callable[[Term], int]
InitialByte = Callable[[Hashable, int], int]


def evaluate(roots: Iterable[Term], variable: Variable, initial_byte: InitialByte) -> dict[int, int]:
    """The value of every node below the roots, by node id.

    `variable` gives the value of a "var" term, `initial_byte` the byte of a region at an address.
    """
    values: dict[int, int] = {}
    for term in reachable(roots):
        if term.op == "var":
            value = variable(term)
        elif term.op == "init":
            value = initial_byte(term.data, values[term.args[0].id])
        else:
            value = _operation(term, [values[arg.id] for arg in term.args])
        values[term.id] = value & mask(term.width)
    return values


def _operation(term: Term, args: list[int]) -> int:
    if term.op == "const":
        assert isinstance(term.data, int)
        return term.data
    if term.op == "slice":
        assert isinstance(term.data, int)
        return args[0] >> term.data
    if term.op == "concat":
        value = position = 0
        for arg, part in zip(args, term.args, strict=True):
            value |= arg << position
            position += part.width
        return value
    if term.op == "linear":
        constant, coefficients = linear_data(term)
        return constant + sum(c * arg for c, arg in zip(coefficients, args, strict=True))
    if term.op == "ite":
        return args[1] if args[0] else args[2]
    width = term.args[0].width
    return _SIMPLE[term.op](width, *args)


def signed(width: int, value: int) -> int:
    return value - (1 << width) if value >> width - 1 & 1 else value


def _sdiv(width: int, a: int, b: int) -> int:
    x, y = signed(width, a), signed(width, b)
    if y == 0:
        return 1 if x < 0 else -1
    quotient = abs(x) // abs(y)
    return quotient if (x < 0) == (y < 0) else -quotient


def _srem(width: int, a: int, b: int) -> int:
    x, y = signed(width, a), signed(width, b)
    if y == 0:
        return a
    remainder = abs(x) % abs(y)
    return -remainder if x < 0 else remainder


_SIMPLE: dict[str, Callable[..., int]] = {
    "mul": lambda width, a, b: a * b,
    "and": lambda width, a, b: a & b,
    "or": lambda width, a, b: a | b,
    "xor": lambda width, a, b: a ^ b,
    "not": lambda width, a: ~a,
    "shl": lambda width, a, b: a << b if b < width else 0,
    "lshr": lambda width, a, b: a >> b if b < width else 0,
    "ashr": lambda width, a, b: signed(width, a) >> min(b, width - 1),
    "sext": lambda width, a: signed(width, a),
    "udiv": lambda width, a, b: a // b if b else -1,
    "urem": lambda width, a, b: a % b if b else a,
    "sdiv": _sdiv,
    "srem": _srem,
    "eq": lambda width, a, b: int(a == b),
    "ult": lambda width, a, b: int(a < b),
    "slt": lambda width, a, b: int(signed(width, a) < signed(width, b)),
}
