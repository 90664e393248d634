"""Where the disk has no room or the folder lets nobody write: clang's object, clang's exit code, no leftovers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.drop_in.compilers import MARKING, fast_launcher
from tests.drop_in.rows import SOURCES
from tests.wrapper.harness import Seen, fill, observe

pytestmark = pytest.mark.needs("clang-19")
WORDS = "--target=bpf -O2 -c prog.c -o"
HUGE = MARKING.replace('b"|level "', 'bytes(1 << 20) + b"|level "')
# As root without the right to pass over permissions; as anybody else they count anyway.
UNPRIVILEGED = "setpriv --bounding-set=-dac_override --inh-caps=-dac_override" if os.geteuid() == 0 else ""


def in_small_disk(compiler: str, tmp_path: Path, **settings: str) -> Seen:
    """Compile into a file system of 64 KiB of our own; what is on it in the end comes back in `kept`."""
    folder = fill(tmp_path / "work", SOURCES)
    (folder / "disk").mkdir()
    script = (
        f"mount -t tmpfs -o size=64k none disk || exit 99; {compiler} {WORDS} disk/prog.o; status=$?; "
        "mkdir kept; cp -a disk/. kept; umount disk; exit $status"
    )
    return observe(["unshare", "--mount", "sh", "-c", script], folder, b"", K2_CLANG="clang-19", **settings)


@pytest.mark.needs("root")
def test_full_disk_leaves_clangs_object(tmp_path: Path) -> None:
    theirs = in_small_disk("clang-19", tmp_path)
    assert theirs.code == 0 and "kept/prog.o" in theirs.files
    fits = fast_launcher(tmp_path / "bin", before=MARKING)
    assert in_small_disk(str(fits), tmp_path).files["kept/prog.o"][1] == theirs.files["kept/prog.o"][1] + b"|level 1"
    bursts = fast_launcher(tmp_path / "bin", before=HUGE)
    ours = in_small_disk(str(bursts), tmp_path)
    assert (ours.code, ours.files, ours.stdout) == (theirs.code, theirs.files, theirs.stdout)
    assert ours.stderr.startswith(b"k2-clang: disk/prog.o: ") and b"No space left on device" in ours.stderr
    assert ours.stderr.count(b"\n") == 1
    strict = in_small_disk(str(bursts), tmp_path, K2_STRICT="1")
    assert strict.code == 1 and "kept/prog.o" not in strict.files


@pytest.mark.needs("root")
def test_disk_that_is_too_full_for_clang_is_clangs_affair(tmp_path: Path) -> None:
    """The report as well: nothing of ours turns a failing compilation into another failure."""
    wrapper = fast_launcher(tmp_path / "bin", before=MARKING)
    filling = "head -c 65536 /dev/zero > disk/filler;"
    theirs, ours = (in_small_disk(f"{filling} {compiler}", tmp_path) for compiler in ("clang-19", str(wrapper)))
    assert (ours.code, ours.stdout, ours.files) == (theirs.code, theirs.stdout, theirs.files)
    assert theirs.code == 1 and "kept/prog.o" not in theirs.files
    assert theirs.stderr.splitlines()[0] == ours.stderr.splitlines()[0], "addresses of its stack follow"


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize("exists", [False, True])
def test_folder_without_permission(exists: bool, tmp_path: Path) -> None:
    """clang writes into an object that exists, and that is then kept; it fails where there is none."""
    wrapper = fast_launcher(tmp_path / "bin", before=MARKING)
    seen = []
    for compiler in ("clang-19", str(wrapper)):
        folder = fill(tmp_path / "work", SOURCES)
        (folder / "closed").mkdir()
        if exists:
            (folder / "closed" / "prog.o").write_bytes(b"old")
        (folder / "closed").chmod(0o555)
        command = ["sh", "-c", f"{UNPRIVILEGED} {compiler} {WORDS} closed/prog.o"]
        seen.append(observe(command, folder, b"", K2_CLANG="clang-19"))
        (folder / "closed").chmod(0o755)
    assert seen[0].files == seen[1].files and seen[0].code == seen[1].code
    if exists and seen[0].code == 0:
        assert seen[1].stderr.startswith(b"k2-clang: closed/prog.o: ") and seen[1].stderr.count(b"\n") == 1
    else:
        assert seen[0].stderr == seen[1].stderr and not exists


def test_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    wrapper = fast_launcher(tmp_path / "bin", before=MARKING)
    command = ["sh", "-c", f"{wrapper} {WORDS} prog.o"]
    seen = observe(command, fill(tmp_path / "work", SOURCES), b"", K2_CLANG="clang-19", K2_REPORT="/dev/full")
    assert seen.code == 0 and seen.files["prog.o"][1].endswith(b"|level 1")
    assert seen.stderr == b"k2-clang: K2_REPORT=/dev/full: No space left on device\n"
