"""Runs of the wrapper as a user would start it, beside runs of the real compiler with the same arguments."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 120
TEMPORARY = re.compile(rb"-[0-9a-f]{6}\.o")  # clang's own random names, where it calls a linker

SOURCES = {
    "prog.c": """
#define SEC(name) __attribute__((section(name), used))
struct xdp_md { unsigned data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
SEC("xdp") int pass(struct xdp_md *context)
{
    unsigned char *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    if (data + 14 > end)
        return 1;
    data[0] = data[1] = data[2] = data[3] = 0;
    return data[12] == 8 && data[13] == 0 ? 2 : 1;
}
char _license[] SEC("license") = "GPL";
""",
    "second.c": 'int second(void *context) { return 2; }\nchar l[] __attribute__((section("license"))) = "GPL";\n',
    "bad.c": "int f(void) { return undeclared; }\n",
    "warns.c": "int f(void) { int unused; return 0; }\n",
    "host.c": "int main(void) { return 0; }\n",
    "args.rsp": '-O2 -g --target=bpf -DNAME="a b" @inner.rsp\n',
    "inner.rsp": "-c prog.c -o 'from rsp.o'\n",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a build system can see of a run: exit code (negative: signal), both outputs, and the files behind it."""

    code: int
    stdout: bytes
    stderr: bytes
    files: dict[str, tuple[int, bytes]]

    def without(self, *names: str) -> Seen:
        kept = {name: value for name, value in self.files.items() if name not in names}
        return Seen(self.code, self.stdout, self.stderr, kept)


def launcher(folder: Path, name: str = "k2-clang", fault: str = "") -> Path:
    """An entry point as pip writes it, in `folder`; `fault` is Python that runs before it (fault injection)."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / name
    body = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{fault}\nfrom clang_wrapper import main\nsys.exit(main())\n"
    script.write_text(f"#!{sys.executable}\n{body}")
    script.chmod(0o755)
    return script


def fill(folder: Path, sources: dict[str, str] = SOURCES) -> Path:
    """A fresh working folder with the sources."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in sources.items():
        (folder / name).write_text(text)
    return folder


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every regular file below; other kinds have their mode alone."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        found[str(path.relative_to(folder))] = (mode, path.read_bytes() if stat.S_ISREG(mode) else b"")
    return found


def environment(**variables: str) -> dict[str, str]:
    """The test's own environment without settings of ours and without the user's cache, and with `variables`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    return {**clean, "LC_ALL": "C", "K2_CACHE": "off", **variables}


def observe(command: list[str], folder: Path, stdin: bytes = b"", **variables: str) -> Seen:
    """Run `command` in `folder` to its end."""
    done = subprocess.run(
        command, cwd=folder, input=stdin, env=environment(**variables), capture_output=True, timeout=SECONDS
    )
    return Seen(done.returncode, done.stdout, TEMPORARY.sub(b"-X.o", done.stderr), files(folder))
