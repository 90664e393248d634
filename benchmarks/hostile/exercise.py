"""What is asked of one damaged object: an answer, within bounds of time and memory.

Lint it, read it, write it unchanged, change one function by no-ops, write that (debug sections included), lint and read
the result, and undo the change.  Whatever escapes from one of these functions is a finding, and so is an answer that
contradicts another.
"""

from __future__ import annotations

import random
import signal
import traceback
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks.corpus.shake import contents, taken_out, with_no_ops
from llvm_bridge.lint import lint
from llvm_bridge.object import Object, Untouched
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object

CPU_SECONDS: Final = 2.0
CHANCE: Final = 0.3
UNDONE: Final = 0.25  # of all edits: it takes as long as everything before it


class TooLongError(BaseException):
    """The bound of CPU time is used up; no `except Exception` on the way takes it for its own."""


class ContradictionError(Exception):
    """Two answers about one object do not fit together."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`kind` is "untouched", "unchanged", "edited" or "finding"; `reason` is a short text without names and numbers.

    `trace` tells a finding in full.
    """

    kind: str
    reason: str = ""
    trace: str = ""


def exercise(data: bytes) -> Outcome:
    """What becomes of an object; raises whatever escapes."""
    findings = lint(data)
    source = read_object(data)
    if isinstance(source, Untouched):
        return Outcome("untouched", plain(source.reason))
    if write_object(source, source.unit) != source.data:
        raise ContradictionError("written without a change, other bytes came out")
    choice = [function for function in source.unit.functions if function.untouchable is None]
    if not choice:
        kept = source.unit.functions[0].untouchable if source.unit.functions else None
        return Outcome("unchanged", plain(kept or "it has no functions"))
    return _edited(source, frozenset(findings), random.Random(zlib.crc32(data)))


def _edited(source: Object, findings: frozenset[object], rng: random.Random) -> Outcome:
    function = rng.choice([function for function in source.unit.functions if function.untouchable is None])
    changed, places = with_no_ops(function, CHANCE, rng)
    if not places:
        changed, places = with_no_ops(function, 1.0, rng)
    losses = Counter[str]()
    written = write_object(source, source.unit.with_function(changed), losses)
    if isinstance(written, Untouched):
        return Outcome("unchanged", plain(written.reason))
    if not places:
        return Outcome("unchanged", "no place for a no-op")
    again = read_object(written)
    if isinstance(again, Untouched):
        raise ContradictionError(f"the written object cannot be read: {again.reason}")
    sizes = [sum(1 for _ in f.insns()) for f in again.unit.functions]
    wanted = [
        sum(1 for _ in f.insns()) + (len(places) if f.name == function.name else 0) for f in source.unit.functions
    ]
    if sizes != wanted:
        raise ContradictionError("the written object has other functions")
    # A claim to be our plugin's record may go with what tied it to the object: then `again` is more than an edit.
    if again.data == written and rng.random() < UNDONE:
        if set(lint(written)) - findings:
            raise ContradictionError("the written object has new lint findings")
        if not findings:
            _undone(source, again, source.unit.functions.index(function), places)
    return Outcome("edited", plain(next(iter(losses))) if losses else "")


def _undone(source: Object, edited: Object, number: int, places: tuple[int, ...]) -> None:
    """Without its no-ops the object has to be what it was (debug sections aside, which may have had to go)."""
    restored = taken_out(edited, {edited.unit.functions[number].name: places})
    if isinstance(restored, Untouched):
        raise ContradictionError(f"the edit cannot be undone: {restored.reason}")
    before, after = contents(source.data), contents(restored)
    if before != after:
        differing = sorted(name for name in {**before, **after} if before.get(name) != after.get(name))
        raise ContradictionError(f"undone, the edit leaves traces in {differing}")


def bounded(data: bytes) -> Outcome:
    """The outcome within the bound of time; what escapes becomes a finding.  The memory bound is the process's."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise TooLongError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        return exercise(data)
    except (Exception, TooLongError) as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        return Outcome("finding", _site(error), "".join(traceback.format_exception(error)))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _site(error: BaseException) -> str:
    """Kind of error, and where it came from: one text for the same fault in many objects."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "llvm_bridge" in frame.filename or "verifier_model" in frame.filename]
    if isinstance(error, ContradictionError):
        return f"contradiction: {plain(str(error))}"
    where = f"{Path(ours[-1].filename).name}:{ours[-1].name}:{ours[-1].lineno}" if ours else "outside"
    return f"{type(error).__name__} in {where}"


def plain(text: str) -> str:
    """A reason without what is particular to one object: names with dots, underscores or digits, and numbers."""
    words = [word if word.strip("(),:;").replace("-", "").replace("'", "").isalpha() else "*" for word in text.split()]
    return " ".join(word for at, word in enumerate(words) if word != "*" or words[at - 1 : at] != ["*"])[:100]
