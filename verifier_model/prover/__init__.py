"""Proves that one window of instructions may stand for another (DESIGN.md, "What equivalence means")."""

from verifier_model.prover.limits import DEFAULT, Limits
from verifier_model.prover.refinement import prove, smtlib

__all__ = ["DEFAULT", "Limits", "prove", "smtlib"]
