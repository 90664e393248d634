"""The compilers that a user may have behind k2-clang, and a k2-clang that marks what its stage is given."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.wrapper.harness import ROOT, Seen, observe

NAMES: Final = ("clang-14", "clang-16", "clang-19", "wheel")
COMPILERS: Final = [pytest.param(name, marks=pytest.mark.needs(name.replace("wheel", "ziglang"))) for name in NAMES]
DEFAULT_LEVEL: Final = {"clang-14": "?", "clang-16": "?", "clang-19": "1", "wheel": "3"}
SITE: Final = sysconfig.get_path("purelib")
TOOLS: Final = ("sh", "cat", "sed", "grep", "head", "tr", "cut", "printf", "mkdir", "cp", "echo", "ld")

MARKING: Final = """
import object_stage
from synth.record import Record
def mark(data, settings, cpu_level=None, second=None):
    return object_stage.Outcome(data + b"|level " + str(cpu_level or "?").encode(), Record(()))
object_stage.optimise_bytes = mark
"""
"""Instead of optimising: the level behind the object's bytes.  What carries no mark, our stage was never given."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A real compiler's words, and the environment in which k2-clang chooses it."""

    words: str
    environment: dict[str, str]


def compiler(name: str, folder: Path) -> Compiler:
    """The wheel's clang is what k2-clang takes where PATH has no clang, so `folder` gets a PATH without one."""
    if name != "wheel":
        return Compiler(name, {"K2_CLANG": name})
    tools = folder / "tools"
    tools.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    base = Path(SITE) / "ziglang"
    headers = " ".join(f"-idirafter {base}/lib/libc/include/{kind}-linux-any" for kind in ("any", "x86"))
    quiet = f"--start-no-unused-arguments {headers} --end-no-unused-arguments"
    return Compiler(f"{base}/zig clang -resource-dir {base}/lib {quiet}", {"PATH": str(tools)})


def fast_launcher(folder: Path, name: str = "k2-clang", before: str = "") -> Path:
    """An entry point whose Python starts without the folders of packages; `before` runs in front of it."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / name
    paths = f"sys.path[:0] = [{str(ROOT)!r}]\nsys.path.append({SITE!r})\n"
    body = f"import sys\n{paths}{before}\nfrom clang_wrapper import main\nsys.exit(main())\n"
    script.write_text(f"#!{sys.executable} -IS\n{body}")
    script.chmod(0o755)
    return script


def run_script(script: str, words: str, folder: Path, stdin: str = "", **variables: str) -> Seen:
    """Run a script with those words as $CC; the folder's variable paths are the same for whoever is compared."""
    return observe(["sh", "-c", script], folder, stdin.encode(), CC=words, **variables)
