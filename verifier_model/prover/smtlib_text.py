"""Terms as SMT-LIB 2.6 text: one definition for each node, so that shared terms stay shared and nothing is rewritten.

The text owes nothing to a solver: no solver's printer, names or simplification has a part in it, and the same terms
always give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from verifier_model.prover.terms import Term, linear_data, reachable

HEAD: Final = "(set-logic QF_BV)\n"
TAIL: Final = "(check-sat)\n"
LINE: Final = 160  # characters of a comment's line


def comment(text: str) -> str:
    """The text as comment lines.  Whatever stands in it (names come from the object), no line can end the comment."""
    lines = []
    for line in text.split("\n"):
        plain = "".join(c if " " <= c <= "~" else "".join(f"\\u{{{ord(c):x}}}") for c in line.replace("\t", " "))
        lines += [f"; {plain[at : at + LINE]}".rstrip() for at in range(0, max(len(plain), 1), LINE)]
    return "".join(f"{line}\n" for line in lines)


def script(assumptions: Iterable[Term], goals: Iterable[Term] | None) -> str:
    """A whole script: every assumption holds and, unless `goals` is None, at least one goal does (terms of one bit)."""
    assumed = list(assumptions)
    wanted = None if goals is None else list(goals)
    parts = [HEAD, *map(_definition, reachable([*assumed, *(wanted or ())]))]
    parts += [f"(assert (= {_name(term)} #b1))\n" for term in assumed]
    if wanted is not None:
        parts.append(_one_of([f"(= {_name(term)} #b1)" for term in wanted]))
    return "".join([*parts, TAIL])


def _one_of(conditions: list[str]) -> str:
    if not conditions:
        return "(assert false)\n"
    return f"(assert {conditions[0]})\n" if len(conditions) == 1 else f"(assert (or {' '.join(conditions)}))\n"


def _name(term: Term) -> str:
    if term.op == "const":
        return f"(_ bv{term.constant} {term.width})"
    return f"{'v' if term.op in ('var', 'init') else 't'}{term.id}"


def _definition(term: Term) -> str:
    if term.op == "const":
        return ""
    sort = f"(_ BitVec {term.width})"
    if term.op == "var":
        return comment(_spelled(term.data)) + f"(declare-const {_name(term)} {sort})\n"
    if term.op == "init":
        what = f"the byte of {_spelled(term.data)} at {_name(term.args[0])}"
        return comment(what) + f"(declare-const {_name(term)} {sort})\n"
    return f"(define-fun {_name(term)} () {sort} {_body(term)})\n"


def _spelled(name: object) -> str:
    """What a variable stands for, from its name: a tuple of words, numbers and members of enumerations."""
    if isinstance(name, tuple):
        return " ".join(_spelled(part) for part in name)
    return str(getattr(name, "value", name))


def _body(term: Term) -> str:
    args = [_name(arg) for arg in term.args]
    if term.op in _FUNCTIONS:
        return f"({_FUNCTIONS[term.op]} {' '.join(args)})"
    if term.op in _PREDICATES:
        return f"(ite ({_PREDICATES[term.op]} {' '.join(args)}) #b1 #b0)"
    return _OTHERS[term.op](term, args)


def _slice(term: Term, args: list[str]) -> str:
    assert isinstance(term.data, int)
    return f"((_ extract {term.data + term.width - 1} {term.data}) {args[0]})"


def _concat(term: Term, args: list[str]) -> str:
    result = args[0]
    for arg in args[1:]:
        result = f"(concat {arg} {result})"
    return result


def _sext(term: Term, args: list[str]) -> str:
    return f"((_ sign_extend {term.width - term.args[0].width}) {args[0]})"


def _ite(term: Term, args: list[str]) -> str:
    return f"(ite (= {args[0]} #b1) {args[1]} {args[2]})"


def _linear(term: Term, args: list[str]) -> str:
    constant, coefficients = linear_data(term)
    result = f"(_ bv{constant} {term.width})"
    for coefficient, arg in zip(coefficients, args, strict=True):
        weighted = arg if coefficient == 1 else f"(bvmul (_ bv{coefficient} {term.width}) {arg})"
        result = f"(bvadd {result} {weighted})"
    return result


_FUNCTIONS: Final = {
    "mul": "bvmul",
    "and": "bvand",
    "or": "bvor",
    "xor": "bvxor",
    "not": "bvnot",
    "shl": "bvshl",
    "lshr": "bvlshr",
    "ashr": "bvashr",
    "udiv": "bvudiv",
    "urem": "bvurem",
    "sdiv": "bvsdiv",
    "srem": "bvsrem",
}
_PREDICATES: Final = {"eq": "=", "ult": "bvult", "slt": "bvslt"}
_OTHERS: Final[dict[str, Callable[[Term, list[str]], str]]] = {
    "slice": _slice,
    "concat": _concat,
    "sext": _sext,
    "ite": _ite,
    "linear": _linear,
}
