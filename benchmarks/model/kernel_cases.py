"""The kernel's own verifier cases of linux 6.1 (tools/testing/selftests/bpf/verifier/*.c) as raw programs.

The case files are C initialisers that need the macros and functions around them, so `dump_cases.c` includes them in
their own surroundings and prints them; it is compiled when the cases are first asked for, and nothing of it is kept but
the cases, in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.kernel_tree import kernel_tree
from benchmarks.model.fixed_maps import MAPS
from benchmarks.model.slots import SlotProgram
from verifier_model.kernel.packages import cache_folder

SERIES: Final = "6.1"
_HARNESS: Final = Path(__file__).with_name("dump_cases.c")
_COMPILERS: Final = ("clang-19", "clang-16", "clang-14", "cc")
_STRICT, _ANY = 1, 2  # BPF_F_STRICT_ALIGNMENT, BPF_F_ANY_ALIGNMENT
_NEEDS_UNALIGNED, _WITH_STRICT = 1, 2  # the cases' own flags
_ACCEPTED: Final = (1, 3)  # ACCEPT, VERBOSE_ACCEPT
_MAP_FIXUPS: Final = "fixup_"


@dataclass(frozen=True, slots=True)
class KernelCase:
    """One case.  `accepted`: what linux 6.1 says to a privileged user; `refusal`: what its log then contains.

    `needs`: what only BTF or a kernel function's id can give it ("kfunc", "func_info", "attach point"), "" for none.
    """

    program: SlotProgram
    accepted: bool
    refusal: str
    needs: str = ""

    @property
    def name(self) -> str:
        return self.program.name


def kernel_cases() -> tuple[KernelCase, ...]:
    """All cases, in the order of their files; equal names get a number.

    Raises PackageError without the kernel's source, RuntimeError when the harness does not compile.
    """
    path = _dumped()
    seen: dict[str, int] = {}
    found = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if not row["insns"]:
            continue
        count = seen[row["name"]] = seen.get(row["name"], 0) + 1
        found.append(_case(row, row["name"] if count == 1 else f"{row['name']} #{count}"))
    return tuple(found)


def _case(row: Mapping[str, object], name: str) -> KernelCase:
    flags, type, attach = row["flags"], row["type"], row["attach"]
    assert isinstance(flags, int) and isinstance(type, int) and isinstance(attach, int)
    load_flags = (_STRICT if flags & _WITH_STRICT else 0) | (_ANY if flags & _NEEDS_UNALIGNED else 0) | (flags & ~3)
    maps = {
        slot: MAPS[key.removeprefix(_MAP_FIXUPS)]
        for key, slots in row.items()
        if key.startswith(_MAP_FIXUPS) and isinstance(slots, list)
        for slot in slots
    }
    needs = "kfunc" if row["kfuncs"] else "func_info" if row["func_infos"] else ""
    needs = needs or ("attach point" if row["attach_to"] else "")
    program = SlotProgram(name, bytes.fromhex(str(row["insns"])), type, attach, load_flags, maps)
    return KernelCase(program, row["result"] in _ACCEPTED, str(row["errstr"]), needs)


def _dumped() -> Path:
    tree = kernel_tree(SERIES)
    folder = tree.folder / "tools/testing/selftests/bpf"
    sources = sorted((folder / "verifier").glob("*.c"))
    key = hashlib.sha256(_HARNESS.read_bytes() + str(tree.folder).encode()).hexdigest()[:16]
    path = cache_folder() / f"verifier-cases-{SERIES}-{key}.jsonl"
    if not path.exists():
        _dump(folder, tree.folder, sources, path)
    return path


def _dump(folder: Path, tree: Path, sources: Iterable[Path], path: Path) -> None:
    compiler = next((name for name in _COMPILERS if shutil.which(name)), None)
    if compiler is None:
        raise RuntimeError("no C compiler is here (Debian package clang-19)")
    with tempfile.TemporaryDirectory(prefix="k2-cases-") as name:
        work = Path(name)
        (work / "verifier").mkdir()
        (work / "verifier" / "tests.h").write_text("".join(f'#include "{source}"\n' for source in sources))
        program = work / "dump"
        command = [compiler, "-O1", "-w", "-D_GNU_SOURCE", f"-I{work}", f"-I{folder}", f"-I{tree}/tools/include"]
        command += ["-idirafter", f"{tree}/tools/include/uapi", str(_HARNESS), "-o", str(program)]
        built = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if built.returncode != 0:
            raise RuntimeError(f"the kernel's verifier cases do not compile: {built.stderr.strip()[-400:]}")
        done = subprocess.run([str(program)], capture_output=True, text=True, timeout=300, check=True)
        whole = path.with_suffix(".part")
        whole.write_text(done.stdout)
        whole.rename(path)
