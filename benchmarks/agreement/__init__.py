"""Campaigns that hold everything that gives instructions a meaning to everything else that does.

operands   every row on random operands: Python, z3, native code, the C++ engine, the running kernel
programs   random whole programs: the same engines
traces     facts against traces of real programs
fool       mutants of proved rewrites against the prover
"""
