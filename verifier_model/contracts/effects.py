"""What a call may read, write and observe: the part of a helper's contract that liveness and the prover need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryArgument:
    """Memory reached through argument register `reg`; `size` in bytes, None when it has no known bound."""

    reg: int
    size: int | None


@dataclass(frozen=True, slots=True)
class CallEffects:
    """Upper bounds on what a call does.

    `arguments`: registers whose values the callee reads (r1 to r5).  `reads` and `writes`: memory behind argument
    registers.  `must_write` lists writes that are certain and complete (they kill stack liveness).
    `observes_packet`: may read packet, metadata or context.  `changes_packet`: invalidates all packet pointers.
    `reads_all`, `writes_all`: may touch everything reachable (unknown callee, callback, transitively stored pointers).
    `private_stack`: no pointer to the caller's frame reaches the callee, so it neither reads nor writes that frame,
    whatever `reads_all` and `writes_all` say.
    `is_pure`: no effect but its result, and equal arguments and memory give equal results within one run.
    """

    arguments: tuple[int, ...]
    reads: tuple[MemoryArgument, ...] = ()
    writes: tuple[MemoryArgument, ...] = ()
    must_write: tuple[MemoryArgument, ...] = ()
    observes_packet: bool = False
    changes_packet: bool = False
    reads_all: bool = False
    writes_all: bool = False
    private_stack: bool = False
    is_pure: bool = False


UNKNOWN_CALL = CallEffects((1, 2, 3, 4, 5), observes_packet=True, changes_packet=True, reads_all=True, writes_all=True)
