"""Every rewriting constructor equals the plain one, by z3 for all values; evaluation agrees with z3."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from verifier_model.prover.evaluate import evaluate
from verifier_model.prover.limits import DEFAULT, Limits
from verifier_model.prover.simplify import SimplifyingTerms
from verifier_model.prover.smt_algebra import Query
from verifier_model.prover.terms import Term, Terms

SEED = 20240611
BINARY = ["add", "sub", "mul", "udiv", "urem", "sdiv", "srem", "and_", "or_", "xor", "shl", "lshr", "ashr"]
TRUTH = ["eq", "ult", "slt"]
KINDS = ["binary", "binary", "by", "by", "truth", "ite", "const", "shift", "zext", "sext", "trunc", "slice", "cat"]
Program = list[tuple[str, tuple[int, ...], int, int]]


def random_program(rng: random.Random, width: int, steps: int) -> Program:
    """Steps (operation, operand positions, width, number) over a growing list of values of mixed widths."""
    widths = [width, width, 8, width]
    program: Program = [("var", (), w, 0) for w in widths[:3]]
    program.append(("const", (), width, rng.choice([0, 1, -1, 5, 12])))
    while len(program) < steps:
        a = rng.randrange(len(program))
        w = widths[a]
        same = [i for i, x in enumerate(widths) if x == w]
        b = rng.choice(same)
        kind = rng.choice(KINDS)
        step: tuple[str, tuple[int, ...], int, int]
        if kind == "binary":
            step = (rng.choice(BINARY), (a, b), w, 0)
        elif kind == "by":
            number = rng.choice([0, 1, 2, 3, 5, 7, 8, -1, -2, rng.getrandbits(w), rng.getrandbits(w)])
            step = (rng.choice(BINARY + TRUTH[1:]) + "_const", (a,), w, number)
        elif kind == "truth":
            step = (rng.choice(TRUTH), (a, b), 1, 0)
        elif kind == "ite":
            flags = [i for i, x in enumerate(widths) if x == 1]
            if not flags:
                continue
            step = ("ite", (rng.choice(flags), a, b), w, 0)
        elif kind == "const":
            step = ("const", (), w, rng.choice([0, 1, 2, 3, 8, -1, -2, 0xF0, rng.getrandbits(w)]))
        elif kind == "shift":
            step = (rng.choice(["shl", "lshr", "ashr"]) + "_by", (a,), w, rng.randrange(w))
        elif kind in ("zext", "sext"):
            if w >= 16:
                continue
            step = (kind, (a,), rng.randint(w, 16), 0)
        elif kind == "cat":
            c = rng.randrange(len(program))
            if w + widths[c] > 20:
                continue
            step = ("cat", (a, c), w + widths[c], 0)
        else:
            cut = rng.randint(1, w)
            low = rng.randint(0, w - cut) if kind == "slice" else 0
            step = (kind, (a,), cut, low)
        program.append(step)
        widths.append(step[2])
    return program


def build(terms: Terms, program: Program) -> list[Term]:
    values: list[Term] = []
    for position, (op, operands, width, number) in enumerate(program):
        args = [values[i] for i in operands]
        if op == "var":
            value = terms.var(f"v{position}", width)
        elif op == "const":
            value = terms.const(width, number)
        elif op.endswith("_const"):
            against: Callable[[Term, Term], Term] = getattr(terms, op[:-6])
            value = against(args[0], terms.const(args[0].width, number))
            value = terms.zext(width, value) if value.width < width else value
        elif op.endswith("_by"):
            shift: Callable[[Term, Term], Term] = getattr(terms, op[:-3])
            value = shift(args[0], terms.const(width, number))
        elif op in ("zext", "sext", "trunc"):
            extend: Callable[[int, Term], Term] = getattr(terms, op)
            value = extend(width, args[0])
        elif op == "slice":
            value = terms.slice(args[0], number, width)
        elif op == "cat":
            value = terms.concat(args)
        else:
            operate: Callable[..., Term] = getattr(terms, op)
            value = operate(*args)
        assert value.width == width, (op, value)
        values.append(value)
    return values


@pytest.mark.parametrize("case", range(160))
def test_simplified_equals_plain_for_all_values(case: int) -> None:
    rng = random.Random(SEED + case)
    program = random_program(rng, rng.choice([4, 7, 8]), 45)
    terms = SimplifyingTerms()
    smart = build(terms, program)
    # The plain constructors of the base class run on the same node table, so that both sides share variables.
    plain = build(_Plain(terms), program)
    goals = [
        terms.node("xor", 1, (_plain_eq(terms, a, b), terms.const(1, 1))) for a, b in zip(smart, plain, strict=True)
    ]
    answer = Query(terms, [], goals, 0).solve(Limits(solver_steps=20_000_000))
    assert answer is None, f"seed {SEED + case}: {answer}"


def pool(terms: Terms) -> list[Term]:
    """Terms of four bits in every shape that some rule looks for."""
    x, y, z = (terms.var(name, 4) for name in "xyz")
    bit = terms.slice(z, 2, 1)

    def const(value: int) -> Term:
        return terms.const(4, value)

    return [
        *(const(value) for value in (0, 1, 2, 3, 7, 8, 15)),
        x,
        y,
        terms.add(x, const(3)),
        terms.sub(y, x),
        terms.sub(terms.add(y, const(5)), x),
        terms.mul(x, const(6)),
        terms.shl(x, const(1)),
        terms.lshr(y, const(2)),
        terms.invert(x),
        terms.or_(x, const(6)),
        terms.and_(y, const(5)),
        terms.sext(4, terms.slice(x, 0, 2)),
        terms.sext(4, bit),
        terms.zext(4, terms.slice(y, 1, 3)),
        terms.ite(bit, x, y),
        terms.concat((terms.slice(x, 2, 2), terms.slice(x, 0, 2))),
        terms.concat((terms.slice(terms.sext(4, bit), 1, 2), terms.slice(terms.sext(4, terms.slice(x, 1, 1)), 1, 2))),
        terms.xor(x, y),
    ]


@pytest.mark.parametrize("op", [*BINARY, *TRUTH])
def test_every_pair_of_shapes(op: str) -> None:
    terms = SimplifyingTerms()
    plain_terms = _Plain(terms)
    goals = []
    shapes, plain_shapes = pool(terms), pool(plain_terms)
    operate: Callable[[Term, Term], Term] = getattr(terms, op)
    plain_operate: Callable[[Term, Term], Term] = getattr(plain_terms, op)
    for a, plain_a in zip(shapes, plain_shapes, strict=True):
        for b, plain_b in zip(shapes, plain_shapes, strict=True):
            smart, plain = operate(a, b), plain_operate(plain_a, plain_b)
            if op in TRUTH:
                smart, plain = terms.not_(smart), plain_terms.not_(plain)
            for low, width in ((0, smart.width), (0, 2), (1, 2)):
                if low + width <= smart.width:
                    cut, plain_cut = terms.slice(smart, low, width), plain_terms.slice(plain, low, width)
                    cut = terms.trunc(width, smart) if low == 0 else cut
                    goals.append(terms.node("not", 1, (_plain_eq(terms, cut, plain_cut),)))
    answer = Query(terms, [], goals, 0).solve(Limits(solver_steps=50_000_000))
    assert answer is None, answer


class _Plain(Terms):
    """The base class's constructors over another builder's node table."""

    def __init__(self, shared: Terms) -> None:
        super().__init__()
        self._nodes = shared._nodes


def _plain_eq(terms: Terms, a: Term, b: Term) -> Term:
    return terms.node("eq", 1, (a, b))


@pytest.mark.parametrize("case", range(60))
def test_evaluation_agrees_with_the_solver(case: int) -> None:
    rng = random.Random(SEED + 1000 + case)
    program = random_program(rng, rng.choice([5, 8, 16]), 30)
    terms = Terms()
    values = build(terms, program)
    point = {v.id: rng.getrandbits(v.width) for v in values if v.op == "var"}
    computed = evaluate(values, lambda v: point[v.id], lambda region, address: 0)
    at_point = [terms.eq(v, terms.const(v.width, point[v.id])) for v in values if v.op == "var"]
    goals = [terms.not_(terms.eq(v, terms.const(v.width, computed[v.id]))) for v in values]
    assert Query(terms, at_point, goals, 0).solve(DEFAULT) is None, f"seed {SEED + 1000 + case}"


def test_a_wrong_rule_would_be_seen() -> None:
    """The comparison above can fail: a shift that is one bit off is refuted with a value."""
    terms = SimplifyingTerms()
    a = terms.var("a", 8)
    wrong = terms.eq(terms.shl(a, terms.const(8, 2)), terms.shl(a, terms.const(8, 3)))
    assert not isinstance(Query(terms, [], [terms.not_(wrong)], 0).solve(DEFAULT), str | None)


def test_a_byte_gather_is_one_slice() -> None:
    terms = SimplifyingTerms()
    word = terms.var("word", 64)
    low, high = terms.zext(64, terms.slice(word, 0, 8)), terms.zext(64, terms.slice(word, 8, 8))
    glued = terms.or_(terms.shl(high, terms.const(64, 8)), low)
    assert glued is terms.zext(64, terms.slice(word, 0, 16))
    assert terms.add(terms.shl(high, terms.const(64, 8)), low) is glued
    assert terms.or_(terms.shl(high, terms.const(64, 9)), low) is not glued


def test_addresses_split_into_base_and_constant() -> None:
    for terms in (Terms(), SimplifyingTerms()):
        base, index = terms.var("base", 64), terms.var("index", 64)
        a = terms.offset(terms.add(terms.offset(base, -8), index), 3)
        b = terms.offset(terms.add(index, base), -1 & (1 << 64) - 1)
        assert terms.split(a)[0] is terms.split(b)[0]
        assert (terms.split(a)[1] - terms.split(b)[1]) & (1 << 64) - 1 == (1 << 64) - 4
        assert terms.split(terms.sub(index, terms.offset(base, 5)))[1] == (1 << 64) - 5
        assert terms.split(terms.const(64, 7)) == (terms.const(64, 0), 7)
        assert terms.split(terms.add(base, base))[0] is not terms.split(base)[0]
