"""Another solver's word on an SMT-LIB script.  Steps bound the work; a clock is only the net below them.

The prover's own solver is z3.  Bitwuzla and cvc5 share neither code nor ancestry with it, so a fault of one solver does
not repeat itself.  They are optional: the extra `certificates` installs them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

Answer = Literal["sat", "unsat", "unknown"]
MILLISECONDS: Final = 1000


@dataclass(frozen=True, slots=True)
class Bounds:
    """`steps` counts in each solver's own unit (a row of SOLVERS), as a multiple of that row's default.

    `seconds` is the safety net: it can only turn an answer into "unknown".  cvc5 counts no steps while its SAT solver
    runs, so there it is the clock that ends a long search.
    """

    steps: float = 1.0
    seconds: int = 60


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer and, for "unknown", why there is none."""

    answer: Answer
    reason: str = ""


class SolverMissingError(Exception):
    """The solver's Python package is not installed; the text says which."""


def ask(solver: str, script: str, bounds: Bounds = Bounds()) -> Reply:
    """What `solver` (a key of SOLVERS) says of one script with a single check-sat.

    Raises SolverMissingError and KeyError.  A script that it cannot read is "unknown".
    """
    row = SOLVERS[solver]
    return row.ask(_imported(row.module), script, max(1, round(row.steps * bounds.steps)), bounds.seconds)


def version(solver: str) -> str:
    """The solver's name and version; raises SolverMissingError."""
    _imported(SOLVERS[solver].module)
    return f"{solver} {importlib.metadata.version(SOLVERS[solver].package)}"


def _ask_z3(z3: Any, script: str, steps: int, seconds: int) -> Reply:
    solver = z3.SolverFor("QF_BV", ctx=z3.Context())
    solver.set("rlimit", steps)
    solver.set("timeout", seconds * MILLISECONDS)
    try:
        solver.from_string(script)
        answer = str(solver.check())
    except z3.Z3Exception as error:
        return Reply("unknown", f"z3 failed: {error}")
    return _reply(answer, solver.reason_unknown)


def _ask_bitwuzla(bitwuzla: Any, script: str, steps: int, seconds: int) -> Reply:
    options = bitwuzla.Options()
    options.set(bitwuzla.Option.TIME_LIMIT_PER, seconds * MILLISECONDS)
    try:
        parser = bitwuzla.Parser(bitwuzla.TermManager(), options)
        parser.parse(script, True, False)
        instance = parser.bitwuzla()
        looks = _Countdown(steps)
        instance.configure_terminator(looks)
        answer = instance.check_sat()
    except bitwuzla.BitwuzlaException as error:
        return Reply("unknown", f"bitwuzla failed: {error}")
    word = {bitwuzla.Result.SAT: "sat", bitwuzla.Result.UNSAT: "unsat"}.get(answer, "unknown")
    return _reply(word, lambda: "the step limit" if looks.is_over else "the time limit")


class _Countdown:
    """Bitwuzla looks here now and then whether it should stop: after so many looks, yes."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    @property
    def is_over(self) -> bool:
        return self.left <= 0

    def __call__(self) -> bool:
        self.left -= 1
        return self.is_over


def _ask_cvc5(cvc5: Any, script: str, steps: int, seconds: int) -> Reply:
    manager = cvc5.TermManager()
    solver = cvc5.Solver(manager)
    solver.setOption("rlimit-per", str(steps))
    solver.setOption("tlimit-per", str(seconds * MILLISECONDS))
    try:
        parser = cvc5.InputParser(solver)
        parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, script, "certificate")
        symbols = parser.getSymbolManager()
        word = "unknown"
        while not (command := parser.nextCommand()).isNull():
            said = command.invoke(solver, symbols).strip()
            if command.getCommandName() == "check-sat":
                word = said
            elif said:
                return Reply("unknown", f"cvc5 failed: {said}")
    except RuntimeError as error:
        return Reply("unknown", f"cvc5 failed: {error}")
    return _reply(word, lambda: "the step or time limit")


def _reply(answer: str, reason: Callable[[], str]) -> Reply:
    if answer == "sat":
        return Reply("sat")
    return Reply("unsat") if answer == "unsat" else Reply("unknown", f"the solver gave up: {reason()}")


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise SolverMissingError(f"the Python package {name} is missing (pip install k2-clang[certificates])") from None


class Solver(NamedTuple):
    """`steps` is the default bound: z3 and cvc5 count resource units, bitwuzla how often it looks whether to stop."""

    module: str
    package: str
    steps: int
    ask: Callable[[Any, str, int, int], Reply]


SOLVERS: Final = {
    "bitwuzla": Solver("bitwuzla", "bitwuzla", 100_000, _ask_bitwuzla),
    "cvc5": Solver("cvc5", "cvc5", 20_000_000, _ask_cvc5),
    "z3": Solver("z3", "z3-solver", 20_000_000, _ask_z3),
}
