"""`k2 prove a.o b.o`: may the second object stand for the first, whoever made them?"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click

OBJECT = click.Path(exists=True, dir_okay=False, path_type=Path)
ALL_PROVED, REFUTED, SOME_UNKNOWN = 0, 1, 3


@click.command()
@click.argument("first", type=OBJECT)
@click.argument("second", type=OBJECT)
def prove(first: Path, second: Path) -> None:
    """Prove, function by function, that SECOND does what FIRST does; compare maps and data.

    Status 0: everything is proved. 1: something is refuted. 3: nothing is, but something stays unknown.
    """
    from k2_tools.side_by_side import side_by_side
    from k2_tools.validation import validate
    from llvm_bridge.object import Object, Untouched
    from llvm_bridge.reader import read_object
    from verifier_model.verdict import Status

    objects: list[Object] = []
    for path in (first, second):
        parsed = read_object(path.read_bytes())
        if isinstance(parsed, Untouched):
            raise click.ClickException(f"{path}: {parsed.reason}")
        objects.append(parsed)
    counts: Counter[Status] = Counter()
    for pair in validate(*objects):
        counts[pair.verdict.status] += 1
        what = f"{pair.section} ({pair.name})" if pair.name else "the objects"
        verdict = pair.verdict
        found = verdict.counterexample
        detail = verdict.method or verdict.reason or (found.difference if found is not None else "")
        click.echo(f"{what}: {verdict.status.value}: {detail}")
        for line in side_by_side(found) if found is not None else ():
            click.echo(f"    {line}")
    told = f"{counts[Status.PROVED]} proved, {counts[Status.REFUTED]} refuted, {counts[Status.UNKNOWN]} unknown"
    click.echo(told)
    sys.exit(REFUTED if counts[Status.REFUTED] else SOME_UNKNOWN if counts[Status.UNKNOWN] else ALL_PROVED)
