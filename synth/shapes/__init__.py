"""Shapes: proposals about a whole function.  Outside the trust wall; the prover proves each function as a whole."""

from __future__ import annotations

from typing import Final

from synth.reshape import Reshaper
from synth.shapes.search import reshape_control_flow

SHAPES: Final[tuple[Reshaper, ...]] = (reshape_control_flow,)

__all__ = ["SHAPES"]
