"""Nobody imports upward (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEVELS = {
    "verifier_model.bpf": 1,
    "verifier_model": 2,
    "llvm_bridge": 2,
    "synth": 3,
    "processes": 4,
    "object_stage": 5,
    "clang_wrapper": 6,
    "k2_tools": 7,
    "benchmarks": 7,
}
APART = {("verifier_model", "llvm_bridge"), ("llvm_bridge", "verifier_model"), ("synth", "llvm_bridge")}


def room_of(module: str) -> str | None:
    """The room that a dotted module name belongs to, None for a module that is not ours."""
    return next((room for room in LEVELS if module == room or module.startswith(room + ".")), None)


def imports_of(text: str) -> Iterator[str]:
    """Every module that the text imports, wherever in the file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults(module: str, text: str) -> list[str]:
    """What the module imports against the table."""
    home = room_of(module)
    assert home is not None
    found = []
    for name in imports_of(text):
        other = room_of(name)
        if other is None or other == home:
            continue
        if LEVELS[other] > LEVELS[home] or (home, other) in APART:
            found.append(f"{module} imports {name}")
    return found


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        if room_of(name) is not None:
            found[name] = path
    return found


def test_nobody_imports_upward() -> None:
    known = modules()
    assert len(known) > 50
    assert [fault for name, path in known.items() for fault in faults(name, path.read_text())] == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("synth.door", "from llvm_bridge.reader import read_object"),
        ("synth.door", "def f():\n    import object_stage"),
        ("verifier_model.bpf.isa", "import verifier_model.facts"),
        ("verifier_model.bpf.isa", "from verifier_model import facts"),
        ("llvm_bridge.reader", "from verifier_model.domains import scalar"),
        ("clang_wrapper", "import k2_tools.cli"),
    ],
)
def test_an_import_upward_is_seen(module: str, text: str) -> None:
    assert faults(module, text) != []
    assert faults(module, "import os\nfrom verifier_model.bpf.insn import Insn") == []


def test_bootstrap_needs_nothing_of_ours_and_an_old_python_can_read_it() -> None:
    text = (ROOT / "k2_tools" / "bootstrap.py").read_text()
    assert all(room_of(name) is None for name in imports_of(text))
    ast.parse(text, feature_version=(3, 8))
    top = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert "import tomllib" not in top, "3.10 has none, and must be told that it is too old"
