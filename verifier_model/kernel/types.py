"""The types of the running kernel, as it shows them itself."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Final

from verifier_model.bpf.btf import Btf, BtfError, parse

_VMLINUX: Final = Path("/sys/kernel/btf/vmlinux")


@cache
def running_kernel_types() -> Btf | None:
    """The BTF of the running kernel; None where it shows none that we understand."""
    try:
        return parse(_VMLINUX.read_bytes(), sys.byteorder)
    except (OSError, BtfError):
        return None
