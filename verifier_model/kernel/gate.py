"""The kernel's word on an object, program by program."""

from __future__ import annotations

from dataclasses import dataclass

from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.syscall import Refused


@dataclass(frozen=True, slots=True)
class KernelWord:
    """`verified_insns`: instructions the verifier processed, when accepted; `log`: the end of its log, when not."""

    program: str
    accepted: bool
    verified_insns: int = 0
    reason: str = ""
    log: str = ""


def ask_kernel(data: bytes, programs: tuple[str, ...]) -> tuple[KernelWord, ...]:
    """Load each of `programs` (main programs, by name) of the ELF object `data`, and close them again.

    A program is judged together with the others first, and alone when that fails.  An object without any program that
    the kernel can be asked about gives an empty result.  Raises as `load_object`.
    """
    together = load_object(data)
    if not isinstance(together, Refused):
        with together:
            loaded = together.programs
            return tuple(KernelWord(name, True, loaded[name].verified_insns) for name in programs if name in loaded)
    words = []
    for name in programs:
        alone = load_object(data, LoadOptions(only=frozenset({name})))
        if isinstance(alone, Refused):
            words.append(KernelWord(name, False, 0, alone.reason, alone.log))
            continue
        with alone:
            # libbpf loads nothing, and is content, when no program has that name.
            word = alone.programs.get(name)
            words.append(
                KernelWord(name, word is not None, word.verified_insns if word else 0, "" if word else "absent")
            )
    return tuple(words)
