"""`k2 diff a.o b.o`: two objects, function by function, as text in the kernel's syntax."""

from __future__ import annotations

from pathlib import Path

import click

OBJECT = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("first", type=OBJECT)
@click.argument("second", type=OBJECT)
@click.option("--all", "show_all", is_flag=True, help="also the functions that are equal")
def diff(first: Path, second: Path, show_all: bool) -> None:
    """Show the functions of FIRST and SECOND side by side, with their slot counts."""
    from rich.table import Table
    from rich.text import Text

    from k2_tools.alignment import align
    from k2_tools.tables import change, console

    old, new = _functions(first), _functions(second)
    out = console()
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if before == after and not show_all:
            continue
        slots = change(before[0] if before else 0, after[0] if after else 0) if before and after else "only in one"
        table = Table(title=f"{name}: {slots} slots", title_justify="left", box=None, pad_edge=False)
        table.add_column(str(first))
        table.add_column(str(second))
        for line in align(before[1] if before else "", after[1] if after else ""):
            style = "bold" if line.is_changed else "dim"
            table.add_row(Text(line.left, style=style), Text(line.right, style=style))
        out.print(table)
    total = change(sum(slots for slots, _ in old.values()), sum(slots for slots, _ in new.values()))
    out.print(f"all functions: {total} slots")


def _functions(path: Path) -> dict[str, tuple[int, str]]:
    """Slots and text of every function of the object by name."""
    from llvm_bridge.object import Untouched
    from llvm_bridge.reader import read_object
    from verifier_model.bpf.asm import print_function

    parsed = read_object(path.read_bytes())
    if isinstance(parsed, Untouched):
        raise click.ClickException(f"{path}: {parsed.reason}")
    return {function.name: (function.slots, print_function(function)) for function in parsed.unit.functions}
