"""What k2-clang costs beside clang: a question passed through, an object without gain, one from a warm cache.

    python -m benchmarks.wrapper [--runs N] [--date YYYY-MM-DD] [--write]

Figures are processor time (user and system, with all descendants), the least of the runs, because that is what can be
measured on a machine with other work; wall-clock time, the least too, stands beside it.  Entry points are pip's own and
that of a folder of `k2 toolchain`.  The exit code is 1 when passing through adds more than 30 ms of processor time.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.provenance import provenance
from k2_tools.toolchain import make_toolchain

RESULTS: Final = Path(__file__).parent / "results" / "wrapper.json"
MOST_ADDED: Final = 30.0  # milliseconds
CLANG: Final = "clang-19"
NO_GAIN: Final = 'int program(void *context) { return 2; }\nchar l[] __attribute__((section("license"))) = "GPL";\n'
GAIN: Final = """
#define SEC(name) __attribute__((section(name), used))
struct xdp_md { unsigned data, data_end; };
SEC("xdp") int program(struct xdp_md *context)
{
    unsigned char *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    if (data + 14 > end)
        return 1;
    data[0] = data[1] = data[2] = data[3] = 0;
    return data[12] == 8 && data[13] == 0 ? 2 : 1;
}
char _license[] SEC("license") = "GPL";
"""
OBJECT: Final = ("--target=bpf", "-O2", "-g", "-mcpu=v3", "-c")
CASES: Final[tuple[tuple[str, tuple[str, ...], bool, Mapping[str, str]], ...]] = (
    ("passed through: -dumpversion", ("-dumpversion",), True, {}),
    ("passed through: -E of a source", ("--target=bpf", "-E", "gain.c", "-o", "x.i"), True, {}),
    ("passed through: to LLVM IR", ("--target=bpf", "-O2", "-S", "-emit-llvm", "gain.c", "-o", "x.ll"), True, {}),
    ("--version", ("--version",), False, {}),
    ("object of a host program", ("-c", "no_gain.c", "-o", "host.o"), False, {}),
    ("probe: object without code", ("-target", "bpf", "-c", "-x", "c", os.devnull, "-o", "e.o"), False, {}),
    ("object without gain, no cache", (*OBJECT, "no_gain.c", "-o", "n.o"), False, {"K2_CACHE": "off"}),
    ("object without gain, warm cache", (*OBJECT, "no_gain.c", "-o", "n.o"), False, {"K2_CACHE": "cache"}),
    ("object with gain, warm cache", (*OBJECT, "gain.c", "-o", "g.o"), False, {"K2_CACHE": "cache"}),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """The least of the runs, in milliseconds."""

    cpu: float
    wall: float


@dataclass(frozen=True, slots=True)
class Row:
    """One case with clang alone and with k2-clang by either entry point."""

    case: str
    is_passed_through: bool
    clang: Measured
    pip: Measured
    toolchain: Measured


def measured(command: Sequence[str], folder: str, settings: Mapping[str, str], runs: int) -> Measured:
    """Run the command `runs` times in `folder`, once more before that to warm caches."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    environment = {**plain, "K2_CLANG": CLANG, **settings}
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    found = []
    for number in range(runs + 1):
        start = time.perf_counter()
        process = os.posix_spawnp(command[0], list(command), environment, file_actions=quiet)
        _, status, usage = os.wait4(process, 0)
        if os.waitstatus_to_exitcode(status):
            raise click.ClickException(f"{' '.join(command)} failed in {folder}")
        if number:
            found.append((usage.ru_utime + usage.ru_stime, time.perf_counter() - start))
    return Measured(*(round(1000 * min(values), 1) for values in zip(*found, strict=True)))


def measure(runs: int) -> list[Row]:
    """Every case, in a folder of its own."""
    pip = str(Path(sys.executable).with_name("k2-clang"))
    rows = []
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_toolchain(folder / "toolchain", CLANG)
        (folder / "gain.c").write_text(GAIN)
        (folder / "no_gain.c").write_text(NO_GAIN)
        os.chdir(folder)
        try:
            for case, words, is_passed_through, settings in CASES:
                own = {key: f"{name}/{value}" if value == "cache" else value for key, value in settings.items()}
                three = (
                    measured([program, *words], name, own, runs)
                    for program in (CLANG, pip, str(folder / "toolchain" / "clang"))
                )
                rows.append(Row(case, is_passed_through, *three))
        finally:
            os.chdir(before)
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| | clang alone | k2-clang adds | by a toolchain folder |",
        "|---|---:|---:|---:|",
    ]
    for row in rows:
        added = (f"{entry.cpu - row.clang.cpu:+.1f} ms" for entry in (row.pip, row.toolchain))
        lines.append(f"| {row.case} | {row.clang.cpu:.1f} ms | {' | '.join(added)} |")
    return "\n".join(lines)


@click.command()
@click.option("--runs", default=11, show_default=True)
@click.option("--date", default="")
@click.option("--write", is_flag=True, help="keep the figures")
def main(runs: int, date: str, write: bool) -> None:
    """Measure, print, and keep what k2-clang costs beside clang."""
    rows = measure(runs)
    click.echo(table(rows))
    if write:
        value = {**provenance(date, [CLANG]), "runs": runs, "rows": [asdict(row) for row in rows]}
        RESULTS.write_text(json.dumps(value, indent=1) + "\n")
    slow = [row for row in rows if row.is_passed_through and row.pip.cpu - row.clang.cpu > MOST_ADDED]
    for row in slow:
        click.echo(f"{row.case}: more than {MOST_ADDED:.0f} ms", err=True)
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
