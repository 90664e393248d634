"""Other kernels in qemu without hardware help (TCG): boot, answer a file of questions, end.

The kernel is started as an uncompressed ELF file through its PVH entry; the loader is the init process.  Answers leave
through qemu's debug console, a port that needs no driver.  The machine has no disk and no network.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from verifier_model.kernel.initramfs import archive
from verifier_model.kernel.loader_binary import OracleMissingError, loader

QEMU: Final = "qemu-system-x86_64"
_MACHINE: Final = (
    "-nodefaults -machine q35 -accel tcg -cpu max,la57=off -m 2048 -smp 1 -display none -no-reboot "
    "-chardev stdio,id=answers -device isa-debugcon,iobase=0xe9,chardev=answers "
    "-device isa-debug-exit,iobase=0xf4,iosize=0x4"
)
# no_timer_check: under load the early timer test fails and the boot panics.
_APPEND: Final = "console=ttyS0 panic=-1 quiet no_timer_check nokaslr mitigations=off lsm=bpf"


@dataclass(frozen=True, slots=True)
class Image:
    """An uncompressed kernel: `release` is its series and point release ("6.1.192"), `name` says whose build it is,
    `config` is the file of its build options."""

    path: Path
    config: Path
    release: str
    name: str


def start(image: Image, folder: Path, file: bytes) -> subprocess.Popen[bytes]:
    """The emulator on a question file; `folder` holds its initial file system and what the console said."""
    qemu = shutil.which(QEMU)
    if qemu is None:
        raise OracleMissingError(f"{QEMU} is missing (Debian package qemu-system-x86)")
    initrd = folder / "initrd"
    files = {"init": loader().read_bytes(), "config": image.config.read_bytes(), "questions": file}
    initrd.write_bytes(archive(files))
    command = [qemu, *_MACHINE.split(), "-serial", f"file:{folder / 'console'}"]
    command += ["-kernel", str(image.path), "-initrd", str(initrd), "-append", _APPEND]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
