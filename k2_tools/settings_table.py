"""`k2 settings`: the table of docs/settings.md, from the rows themselves."""

from __future__ import annotations

import click

from synth.settings import ROWS, defaults

HEAD = """# Settings

`K2_*` environment variables for `k2-clang` and `k2-llc`. Those marked with a star can change the output, and are
options of `k2 opt` and `k2 report` too (`K2_SKIP_FUNCS` is `--skip-funcs`). An empty variable counts as unset. An
unknown one is said on stderr, and fails the compilation under `K2_STRICT=1`. Lists are separated by commas or spaces.
`k2 settings` prints this page.

| variable | default | meaning |
|---|---|---|
"""


def table() -> str:
    """The page as Markdown."""
    return HEAD + "".join(
        f"| `{row.variable}`{' *' if row.shapes_output else ''} | {_shown(defaults()[row.name])} | {row.doc} |\n"
        for row in ROWS
    )


def _shown(value: object) -> str:
    if value in ("", ()):
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


@click.command()
def settings() -> None:
    """Print every setting, its default and its meaning."""
    click.echo(table(), nl=False)
