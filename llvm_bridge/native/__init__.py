"""BPF as native code: every row's meaning evaluated over LLVM IR and compiled by LLVM.

A fourth reader of the same semantics (beside Python integers, z3 and the kernel's JIT), and fast enough to trace
thousands of runs instruction by instruction.  Memory is a sandbox: a wrong access ends the run, never the process.
"""

from __future__ import annotations

from llvm_bridge.native.arena import Arena
from llvm_bridge.native.executor import Call, LeftProgramError, Native, NativeRun, Sample, compile_functions
from llvm_bridge.native.layout import Stop

__all__ = ["Arena", "Call", "LeftProgramError", "Native", "NativeRun", "Sample", "Stop", "compile_functions"]
