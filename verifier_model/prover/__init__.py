"""Proves that code may stand for other code (DESIGN.md, "What equivalence means"): windows, regions, functions."""

from verifier_model.prover.functions import prove_function, prove_region
from verifier_model.prover.guess import guess_cuts, prove_functions
from verifier_model.prover.limits import DEFAULT, Limits
from verifier_model.prover.queries import function_queries, region_queries
from verifier_model.prover.refinement import prove, smtlib

__all__ = [
    "DEFAULT",
    "Limits",
    "function_queries",
    "guess_cuts",
    "prove",
    "prove_function",
    "prove_functions",
    "prove_region",
    "region_queries",
    "smtlib",
]
