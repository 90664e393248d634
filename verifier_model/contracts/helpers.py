"""What each helper takes, returns and does.  A helper without a row may do anything (effects.UNKNOWN_CALL)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from verifier_model.contracts.helper_rows import HELPER_ROWS, HelperRow


class ArgumentKind(Enum):
    """What an argument register must hold (kernel: enum bpf_arg_type), by the word used in `helper_rows`."""

    SCALAR = "any"  # any initialised register
    PEEK = "peek"  # any; when it holds a pointer, the helper may read the memory there
    CTX = "ctx"
    MAP = "map"
    MAP_KEY = "key"  # read, key_size bytes of the map in r1 or r2
    MAP_VALUE = "value"  # read, value_size bytes of that map
    MAP_VALUE_OUT = "value.out"  # written, value_size bytes of that map
    MEM_READ = "read"  # size in the next argument, or fixed
    MEM_WRITE = "write"  # may be uninitialised before; not always written completely (see Helper.fills)
    MEM_READ_WRITE = "rw"
    SIZE = "size"
    ALLOC_SIZE = "alloc"  # bytes of the memory returned
    RECORD = "record"  # memory from a reservation, given back
    STRING = "string"  # NUL-terminated, in a read-only map
    SOCKET = "sock"
    OBJECT = "object"
    FUNCTION = "func"
    FRAME = "frame"  # callback context: a pointer to the caller's stack
    SPIN_LOCK = "lock"
    TIMER = "timer"
    KPTR = "kptr"
    DYNPTR = "dynptr"


class ResultKind(Enum):
    """What r0 holds after the call (kernel: enum bpf_return_type)."""

    SCALAR = "int"
    VOID = "void"
    MAP_VALUE = "map_value"
    MEMORY = "memory"
    SOCKET = "socket"
    TCP_SOCK = "tcp_sock"
    SOCK_COMMON = "sock_common"
    OBJECT = "object"


_WRITTEN: Final = frozenset(
    {
        ArgumentKind.MAP_VALUE_OUT,
        ArgumentKind.MEM_WRITE,
        ArgumentKind.MEM_READ_WRITE,
        # A record that is given back is somebody else's memory from then on.
        ArgumentKind.RECORD,
        ArgumentKind.SOCKET,
        ArgumentKind.OBJECT,
        ArgumentKind.FRAME,
        ArgumentKind.SPIN_LOCK,
        ArgumentKind.TIMER,
        ArgumentKind.KPTR,
        ArgumentKind.DYNPTR,
    }
)


@dataclass(frozen=True, slots=True)
class Argument:
    """`size`: bytes behind a pointer when fixed, else 0.  `changes`: a context that the helper may change.

    `zero`: a size that may be 0 (ARG_CONST_SIZE_OR_ZERO).
    """

    kind: ArgumentKind
    nullable: bool = False
    changes: bool = False
    size: int = 0
    zero: bool = False

    @property
    def is_written(self) -> bool:
        """May the helper write the memory behind this argument?"""
        return self.kind in _WRITTEN or self.changes


@dataclass(frozen=True, slots=True)
class Helper:
    """One helper's contract.

    `arguments[i]` is register r(i+1).  `since` is the first kernel release that has it.  `changes_packet`: all packet
    pointers die.  `observes_packet`: looks at packet or context although it takes no context.  `writes_map`: may
    change values of its map, so writes through live value pointers.  `callback`: runs a function of the program.
    `reads_all`, `writes_all`: may touch memory that no argument delimits.  `fills`: the "write" argument is written
    completely on success and on failure, on every kernel since `since`.  `is_pure`: nothing but the result, and the
    same result for the same arguments and memory within one run.  `bounded_by_size`: r0 is at most the size
    argument's largest value, and at least -4095 (do_refine_retval_range in kernel/bpf/verifier.c).  `acquires`: a
    reference that must be released when not NULL.  `releases`: takes one back.
    """

    id: int
    name: str
    arguments: tuple[Argument, ...]
    result: ResultKind
    result_nullable: bool
    since: tuple[int, int]
    changes_packet: bool = False
    observes_packet: bool = False
    writes_map: bool = False
    callback: bool = False
    reads_all: bool = False
    writes_all: bool = False
    fills: bool = False
    is_pure: bool = False
    bounded_by_size: bool = False
    acquires: bool = False
    releases: bool = False

    @property
    def writes_memory(self) -> bool:
        """May it write any memory that the program can see?"""
        written = any(argument.is_written for argument in self.arguments)
        return written or self.writes_map or self.writes_all or self.callback or self.changes_packet

    def register_of(self, kind: ArgumentKind) -> int | None:
        """The first argument register (1 to 5) of that kind."""
        for index, argument in enumerate(self.arguments):
            if argument.kind is kind:
                return index + 1
        return None

    def size_register(self, reg: int) -> int | None:
        """The register that holds the byte count of the memory argument in `reg`."""
        following = self.arguments[reg : reg + 1]
        return reg + 1 if following and following[0].kind is ArgumentKind.SIZE else None


_WORD: Final = re.compile(r"([a-z.]+)(0)?(\?)?(!)?(?:\[(\d+)\])?")
_MARKS: Final = frozenset(
    {
        "changes_packet",
        "observes_packet",
        "writes_map",
        "callback",
        "reads_all",
        "writes_all",
        "fills",
        "pure",
        "bounded_by_size",
        "acquires",
        "releases",
    }
)


def _argument(word: str) -> Argument:
    match = _WORD.fullmatch(word)
    if match is None:
        raise ValueError(f"no such argument: {word}")
    name, zero, nullable, changes, size = match.groups()
    return Argument(ArgumentKind(name), nullable is not None, changes is not None, int(size or 0), zero is not None)


def _helper(row: HelperRow) -> Helper:
    marks = set(row.marks.split())
    if not marks <= _MARKS:
        raise ValueError(f"unknown marks {sorted(marks - _MARKS)} at helper {row.name}")
    major, minor = row.since.split(".")
    return Helper(
        row.id,
        row.name,
        tuple(_argument(word) for word in row.arguments.split()),
        ResultKind(row.result.removesuffix("?")),
        row.result.endswith("?"),
        (int(major), int(minor)),
        changes_packet="changes_packet" in marks,
        observes_packet="observes_packet" in marks,
        writes_map="writes_map" in marks,
        callback="callback" in marks,
        reads_all="reads_all" in marks,
        writes_all="writes_all" in marks,
        fills="fills" in marks,
        is_pure="pure" in marks,
        bounded_by_size="bounded_by_size" in marks,
        acquires="acquires" in marks,
        releases="releases" in marks,
    )


HELPERS: Final[dict[int, Helper]] = {row.id: _helper(row) for row in HELPER_ROWS}
BY_NAME: Final[dict[str, Helper]] = {helper.name: helper for helper in HELPERS.values()}
