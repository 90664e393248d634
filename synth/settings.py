"""Settings: one row per `K2_*` variable, parsed once into a frozen value.

The rows also make the options of the `k2` command, the table in the documentation and the digest that names the
settings an output was made with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Final

VERSION: Final = "0.1.0"
PREFIX: Final = "K2_"
FOREIGN: Final = frozenset({"K2_REQUIRE_ALL"})  # read by the project's tests, not by the product
TIERS: Final = ("passes", "enumerate", "stochastic")  # cheapest first
EFFORTS: Final = 4
GOALS: Final = ("balanced", "latency", "size")


class SettingsError(ValueError):
    """A `K2_*` variable holds a value that its row does not allow; the message is one line naming both."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked for; every field has a row of the same name in `ROWS`."""

    clang: str = ""
    disable: bool = False
    goal: str = "balanced"
    effort: int = 1
    costs: str = ""
    profile: str = ""
    tiers: tuple[str, ...] = ()
    budget: int = 0
    seed: int = 1
    gate: str = "none"
    kernels: tuple[str, ...] = ()
    plugin: str = "off"
    skip_files: tuple[str, ...] = ()
    skip_sections: tuple[str, ...] = ()
    skip_funcs: tuple[str, ...] = ()
    goal_funcs: tuple[str, ...] = ()
    program_types: tuple[str, ...] = ()
    first: int = 1
    last: int = 0
    report: str = ""
    certificate: str = ""
    cache: str = ""
    jobs: int = 1
    timeout: int = 900
    verbose: bool = False
    strict: bool = False
    config: str = ""

    @property
    def active_tiers(self) -> tuple[str, ...]:
        """Names of the tiers of proposal that are on, cheapest first: as `tiers` says, else as the effort does."""
        if self.tiers:
            return tuple(tier for tier in TIERS if tier in self.tiers)
        return TIERS if self.effort else TIERS[:1]

    def skips_function(self, name: str, section: str) -> bool:
        """Did the user exclude this function by its own or its section's name?"""
        by_name = any(fnmatchcase(name, pattern) for pattern in self.skip_funcs)
        return by_name or any(fnmatchcase(section, pattern) for pattern in self.skip_sections)

    def for_function(self, name: str) -> Settings:
        """The settings for one function: with the goal that the user gave to it; the first pattern that fits counts."""
        pairs = (word.rpartition("=")[::2] for word in self.goal_funcs)
        goal = next((goal for pattern, goal in pairs if fnmatchcase(name, pattern)), self.goal)
        return self if goal == self.goal else replace(self, goal=goal)

    def program_type(self, section: str) -> str | None:
        """What the user says of a section whose name tells libbpf nothing; the first pattern that fits counts."""
        pairs = (word.partition("=")[::2] for word in self.program_types)
        return next((kind for pattern, kind in pairs if fnmatchcase(section, pattern)), None)

    def skips_file(self, path: str) -> bool:
        """Did the user exclude this output file, by its whole path or by its last component?"""
        base = path.rpartition("/")[2]
        return any(fnmatchcase(path, pattern) or fnmatchcase(base, pattern) for pattern in self.skip_files)

    def allows_rewrite(self, number: int) -> bool:
        """Is the `number`-th rewrite of an object (from 1) inside K2_FIRST..K2_LAST, for bisection by hand?"""
        return self.first <= number and (self.last == 0 or number <= self.last)

    @property
    def digest(self) -> str:
        """Twelve hex digits over the settings that can change an output byte."""
        import hashlib  # here and not above: it takes long, and most compilations need no digest

        text = "\n".join(f"{row.name}={getattr(self, row.name)!r}" for row in ROWS if row.shapes_output)
        for path in (self.costs if "/" in self.costs else "", self.profile):
            text += f"\0{_content(path)}" if path else ""
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _flag(text: str) -> bool:
    if text in ("1", "yes", "true", "on"):
        return True
    if text in ("", "0", "no", "false", "off"):
        return False
    raise ValueError("0 or 1")


def _text(text: str) -> str:
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.replace(",", " ").split() if word)


def _count(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"a number from {low} to {high}")
        return int(text)

    return parse


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return text

    return parse


def _tiers(text: str) -> tuple[str, ...]:
    words = _words(text)
    if any(word not in (*TIERS, "none") for word in words):
        raise ValueError("none, or some of " + ", ".join(TIERS))
    return words


def _kernels(text: str) -> tuple[str, ...]:
    from verifier_model.contracts.kernels import KernelSetError, kernels

    try:
        return tuple(profile.name for profile in kernels(text))
    except KernelSetError as error:
        raise ValueError(f"kernels as in 5.10..6.18 ({error})") from None


def _goals(text: str) -> tuple[str, ...]:
    words = _words(text)
    if any(word.rpartition("=")[2] not in GOALS or not word.rpartition("=")[0] for word in words):
        raise ValueError("FUNCTION=GOAL, the goal one of " + ", ".join(GOALS))
    return words


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123  pathlib is slow to import
            return file.read()
    except OSError:
        return ""


def _costs(text: str) -> str:
    from synth.cost import CostError, table

    try:
        return table(text).name
    except CostError as error:
        raise ValueError(f"the name of a shipped cost table or the path of one by k2 calibrate ({error})") from None


def _profile(text: str) -> str:
    from synth.frequency import ProfileError, read_profile

    try:
        read_profile(text)
    except ProfileError as error:
        raise ValueError(f"a profile as in docs/settings.md ({error})") from None
    return text


def _program_types(text: str) -> tuple[str, ...]:
    from verifier_model.contracts.programs import PROGRAM_TYPES

    words = _words(text)
    if any(word.partition("=")[2] not in PROGRAM_TYPES for word in words):
        raise ValueError("SECTION=TYPE, the type as sched_cls or xdp")
    return words


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: the field and variable `name`, how its text is read, and its sentence in the documentation."""

    name: str
    parse: Callable[[str], Any]
    doc: str
    shapes_output: bool = False

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def is_for_files(self) -> bool:
        """May a k2.toml set it?  Such a file may come with sources of strangers, so it names no program to run and no
        file to write, and has nothing loaded into the kernel."""
        return (self.shapes_output and self.name != "gate") or self.name in ("disable", "timeout", "verbose", "strict")


MOST: Final = 2**31 - 1
MOST_JOBS: Final = 1024
ROWS: Final = (
    Row("clang", _text, "the real clang, and the llc beside it for k2-llc; default: first on PATH, else ziglang"),
    Row("disable", _flag, "1: run the real compiler and touch nothing"),
    Row("goal", _choice(*GOALS), "balanced: fewer slots, no path slower; latency; size", True),
    Row(
        "effort",
        _count(0, EFFORTS - 1),
        "0: passes only; 1: and enumeration and short chains; 2: for release builds; 3: as long as gains come",
        True,
    ),
    Row(
        "costs",
        _costs,
        "what instructions cost: a shipped table's name (default x86_64), or a path, with a slash, of what "
        "`k2 calibrate` wrote",
        True,
    ),
    Row(
        "profile",
        _profile,
        'JSON file for goal latency: how often blocks ran, by function and first slot: {"prog": {"0": 99, "12": 4}}; '
        "default: guesses",
        True,
    ),
    Row("tiers", _tiers, "exactly these tiers (passes, enumerate, stochastic), or none; default: by effort", True),
    Row("budget", _count(0, MOST), "steps of the stochastic search per window; 0: as the effort says", True),
    Row("seed", _count(0, MOST), "start of every pseudo-random sequence", True),
    Row("gate", _choice("none", "kernel"), "kernel: also ask the running kernel, and give up what it refuses", True),
    Row(
        "kernels",
        _kernels,
        "what one of these accepts it must accept afterwards: 6.1, 6.1.36, 5.10..6.18, some of them; default: every "
        "long-term series that knows the object's -mcpu level (docs/kernels.md)",
        True,
    ),
    Row(
        "plugin",
        _choice("off", "auto"),
        "auto: compile a second time, silently, with our pass plugin, which records volatile and atomic accesses",
        True,
    ),
    Row("skip_files", _words, "patterns of output files to leave alone", True),
    Row("skip_sections", _words, "patterns of sections to leave alone", True),
    Row("skip_funcs", _words, "patterns of functions to leave alone", True),
    Row("goal_funcs", _goals, "FUNCTION=GOAL for functions (patterns) with a goal of their own", True),
    Row(
        "program_types",
        _program_types,
        "SECTION=TYPE for sections whose names tell libbpf nothing and whose type the loader sets (filter=sched_cls)",
        True,
    ),
    Row("first", _count(0, MOST), "number of the first rewrite of an object to apply, from 1", True),
    Row("last", _count(0, MOST), "number of the last rewrite of an object to apply; 0: no end", True),
    Row("report", _text, "file that gets one line of JSON appended for each object"),
    Row("certificate", _text, "folder that gets a certificate of each object, for `k2 recheck` (docs/certificates.md)"),
    Row(
        "cache", _text, "folder that keeps what was proved, or off; default: k2-clang/proved in the user's cache folder"
    ),
    Row("jobs", _count(1, MOST_JOBS), "processes that optimise functions of one object at the same time"),
    Row(
        "timeout",
        _count(0, MOST),
        "seconds after which a stuck optimiser is given up and clang's object stays; 0: none",
    ),
    Row("verbose", _flag, "1: say for each object what was done, on stderr"),
    Row("strict", _flag, "1: a problem of ours fails the compilation"),
    Row("config", _text, "file of settings in place of the k2.toml found upwards from the output; none: no file"),
)
_BY_VARIABLE: Final = {row.variable: row for row in ROWS}


def parse(environment: Mapping[str, str]) -> Settings:
    """The settings of `environment`; raises SettingsError for a value that is not allowed.

    An empty variable counts as unset.  Unknown variables are `unknown_variables`' concern.
    """
    values = {}
    for row in ROWS:
        text = environment.get(row.variable, "")
        if text == "":
            continue
        try:
            values[row.name] = row.parse(text)
        except ValueError as error:
            raise SettingsError(f"{row.variable}={text!r}: expected {error}") from None
    return Settings(**values)


def unknown_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """One line for each `K2_*` variable that no row knows, with the nearest known name; sorted by name."""
    import difflib

    lines = []
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in _BY_VARIABLE or name in FOREIGN:
            continue
        near = difflib.get_close_matches(name, _BY_VARIABLE, n=1)
        lines.append(f"unknown setting {name}" + (f", did you mean {near[0]}?" if near else ""))
    return tuple(lines)


def defaults() -> Mapping[str, Any]:
    """The default value of every field, by name."""
    return {field.name: field.default for field in fields(Settings)}
