"""Values in webs instead of registers: proposals about where a whole function keeps what it computes."""

from __future__ import annotations

from typing import Final

from synth.reshape import Reshaper
from synth.webs.improve import WEB_PASSES, registers

WEBS: Final[tuple[Reshaper, ...]] = (registers,)

__all__ = ["WEBS", "WEB_PASSES"]
