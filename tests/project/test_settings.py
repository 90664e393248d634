"""Settings rows: parsing, unknown names, the digest, and the page made from them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from k2_tools.settings_table import table
from synth.settings import ROWS, Settings, SettingsError, parse, unknown_variables


def test_every_field_has_a_row_and_every_row_a_field() -> None:
    assert [row.name for row in ROWS] == [field.name for field in fields(Settings)]


def test_values_are_parsed_and_absent_ones_are_defaults() -> None:
    given = parse({"K2_SEED": "7", "K2_SKIP_FUNCS": "a*, b", "K2_DISABLE": "1", "K2_GOAL": "", "HOME": "x"})
    assert given == replace(Settings(), seed=7, skip_funcs=("a*", "b"), disable=True)


@pytest.mark.parametrize(
    ("name", "text"),
    [("K2_SEED", "-1"), ("K2_SEED", "x"), ("K2_GOAL", "speed"), ("K2_DISABLE", "maybe"), ("K2_EFFORT", "99")],
)
def test_wrong_value_names_variable_and_value(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}='{text}': expected"):
        parse({name: text})


def test_unknown_variables_get_the_nearest_name() -> None:
    lines = unknown_variables({"K2_GOLA": "x", "K2_SEED": "1", "K2_REQUIRE_ALL": "1", "K2_XYZZYXYZZY": "", "K3": ""})
    assert lines == ("unknown setting K2_GOLA, did you mean K2_GOAL?", "unknown setting K2_XYZZYXYZZY")


def test_digest_follows_what_shapes_the_output_and_nothing_else() -> None:
    plain = Settings()
    assert replace(plain, verbose=True, report="x", clang="y").digest == plain.digest
    for row in ROWS:
        if row.shapes_output:
            other = replace(plain)
            object.__setattr__(other, row.name, "other")
            assert other.digest != plain.digest


def test_skips() -> None:
    settings = parse({"K2_SKIP_FUNCS": "xdp_*", "K2_SKIP_SECTIONS": "tc", "K2_SKIP_FILES": "b.o"})
    assert settings.skips_function("xdp_main", "xdp") and settings.skips_function("main", "tc")
    assert not settings.skips_function("main", "xdp")
    assert settings.skips_file("a/b.o") and not settings.skips_file("a/bb.o")


def test_rewrites_are_numbered_from_one() -> None:
    assert [n for n in range(1, 6) if parse({"K2_FIRST": "2", "K2_LAST": "3"}).allows_rewrite(n)] == [2, 3]
    assert all(Settings().allows_rewrite(n) for n in range(1, 6))


def test_documentation_page_is_the_rows() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text() == table(), "run: .venv/bin/k2 settings > docs/settings.md"
