"""What compiled code and the executor agree on: the words of the state block, and the codes of why a run ended."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Stop(IntEnum):
    """Why a run ended."""

    EXIT = 0
    END = 1  # control fell off the function's end
    FAULT = 2
    UNMODELLED = 3
    STEPS = 4
    LEFT = 5  # a legacy load outside the packet: the program is over, r0 is 0
    TRACE_FULL = 6


class Word(IntEnum):
    """Index of a 64-bit word in the state block.  Addresses are the host's, except STACK_TOP and STACK_BOTTOM."""

    STOP = 0
    STEPS_LEFT = 1
    TRACE = 2
    TRACE_END = 3
    PLACE = 4  # number of the instruction that a run stopped at
    BYTES = 5
    RIGHTS = 6
    SIZE = 7
    CALLBACK = 8
    STACK_TOP = 9
    STACK_BOTTOM = 10
    REGISTERS = 11  # r0 to r10: at a call's callback, and at the end


WORDS: Final = Word.REGISTERS + 11
POISON: Final = 0xDEAD_BEEF_DEAD_BEEF
FRAME_BYTES: Final = 512
SAMPLE_WORDS: Final = 12  # instruction number, r0 to r10; the bytes of all frames in use follow
