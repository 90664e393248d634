"""`k2 settings`: the table of docs/settings.md, from the rows themselves."""

from __future__ import annotations

import click

from synth.settings import ROWS, defaults

HEAD = """# Settings

`K2_*` environment variables for `k2-clang` and `k2-llc`. Those marked with a star can change the output, and are
options of `k2 opt` and `k2 report` too (`K2_SKIP_FUNCS` is `--skip-funcs`). An empty variable counts as unset. An
unknown one is said on stderr, and fails the compilation under `K2_STRICT=1`. Lists are separated by commas or spaces.
`k2 settings` prints this page, `k2 config OUTPUT` what is in effect for an output file and where each value came from.

A file `k2.toml` in the output file's folder or above it sets the same under the names in small letters
(`goal = "size"`, `skip_funcs = ["probe_*"]`); the environment goes before it. The nearest one counts alone. It may come
with strangers' sources, so what names a program or a file to write, and `gate`, are taken from the environment alone.
`k2-clang --version` ends with a digest of what is in effect in the current folder, for compiler caches.

A function in C source can say the same of itself, which is read from the object's BTF (so compile with `-g`):
`__attribute__((btf_decl_tag("k2:skip")))` leaves it alone, `btf_decl_tag("k2:goal=size")` gives it a goal of its own.
Where the pass plugin ran (`K2_PLUGIN=auto`), `__attribute__((annotate("k2:skip")))` does it too, with or without `-g`.

| variable | default | meaning |
|---|---|---|
"""


def table() -> str:
    """The page as Markdown."""
    return HEAD + "".join(
        f"| `{row.variable}`{' *' if row.shapes_output else ''} | {shown(defaults()[row.name])} | {row.doc} |\n"
        for row in ROWS
    )


def shown(value: object) -> str:
    """A setting's value as a variable would say it."""
    if value in ("", ()):
        return ""
    if isinstance(value, tuple):
        return " ".join(value)
    return str(int(value)) if isinstance(value, bool) else str(value)


@click.command()
def settings() -> None:
    """Print every setting, its default and its meaning."""
    click.echo(table(), nl=False)
