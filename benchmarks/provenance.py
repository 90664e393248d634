"""Where a measurement comes from: recorded beside every stored result."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path


def provenance(date: str, compilers: Sequence[str]) -> dict[str, object]:
    """Machine, kernel, compilers and our own versions as JSON-ready values; `date` is the caller's."""
    return {
        "date": date,
        "machine": f"{platform.machine()}, {os.cpu_count()} x {_processor()}",
        "kernel": platform.release(),
        "compilers": {name: first_line([name, "--version"]) for name in compilers},
        "python": platform.python_version(),
        "z3": metadata.version("z3-solver"),
        "commit": first_line(["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]),
    }


def first_line(command: Sequence[str]) -> str:
    """The first line a command prints, "" when it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return ""
    return (done.stdout.splitlines() or [""])[0]


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")


def replace_section(document: Path, name: str, text: str) -> None:
    """Put generated text between the lines `<!-- name -->` and `<!-- end of name -->` of a Markdown document."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    head, found, rest = document.read_text().partition(start)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{document.name} has no section {name}")
    document.write_text(f"{head}{start}\n{text.strip()}\n\n{end}{tail}")
