"""What the running kernel says of every program of an object, kept by the object's content and the kernel's release."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from processes import ChildFailed, in_child
from verifier_model.checker.knowledge import Knowledge, knowledge
from verifier_model.kernel.gate import KernelWord, ask_kernel
from verifier_model.kernel.packages import cache_folder

LOAD_SECONDS: Final = 120
_LOG_LINES: Final = 6
# In a log only where the verifier itself ran: without it the loader gave up before asking.
# ENOTSUPP before the first instruction: the loader named nothing to attach to (libbpf before 1.2, .struct_ops.link).
_NO_PLACE: Final = "Unknown error 524"
_VERIFIER_MARKS: Final = ("processed ", "-- BEGIN PROG LOAD LOG --")


class KernelVerdicts:
    """The kernel's words by object content, read from and appended to one file per kernel release."""

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or cache_folder()) / f"kernel-words-{platform.release()}.jsonl"
        self._known: dict[str, dict[str, KernelWord]] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            if line.endswith("}"):
                entry = json.loads(line)
                self._known[entry["key"]] = {word["program"]: KernelWord(**word) for word in entry["words"]}

    def of(self, data: bytes, programs: tuple[str, ...]) -> dict[str, KernelWord]:
        """The word on each of `programs` of the object `data`; empty when the kernel could not be asked."""
        key = hashlib.sha256(data + repr(programs).encode()).hexdigest()
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _ask(data, programs)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                words = [asdict(word) for word in known.values()]
                file.write(json.dumps({"key": key, "words": words}) + "\n")
        return known


def _ask(data: bytes, programs: tuple[str, ...]) -> dict[str, KernelWord]:
    """In a process of its own, since libbpf keeps state and may crash on what it is given."""

    def work() -> bytes:
        words = (replace(word, log=_end_of(word.log)) for word in ask_kernel(data, programs))
        return json.dumps([asdict(word) for word in words]).encode()

    try:
        words = [KernelWord(**word) for word in json.loads(in_child(work, LOAD_SECONDS))]
    except ChildFailed:
        return {}
    return {word.program: word for word in words}


def _end_of(log: str) -> str:
    return "\n".join(log.splitlines()[-_LOG_LINES:])


def is_verifiers(word: KernelWord) -> bool:
    """Did the verifier itself decide, or did libbpf or the kernel give up before it ran (maps, BTF, attach targets)?"""
    if _NO_PLACE in word.reason and "processed 0 insns" in word.log:
        return False
    return word.accepted or any(mark in word.log for mark in _VERIFIER_MARKS)


def refusal(word: KernelWord) -> str:
    """The line of the log that says why, without the statistics behind it."""
    for line in reversed(word.log.splitlines()):
        text = line.strip()
        if text and not text.startswith(
            ("processed ", "libbpf:", "-- END", "max_states_per_insn", "verification time")
        ):
            return text
    return word.reason


def running_knowledge() -> Knowledge:
    """What the running kernel's verifier works out."""
    numbers = platform.release().partition("-")[0].split(".")
    major, minor, point = (*(int(word) for word in numbers), 0, 0)[:3]
    return knowledge((major, minor, point))
