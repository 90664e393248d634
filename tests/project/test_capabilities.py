"""The `needs` marker: a skip with a reason by default, a failure where every capability is required."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = (Path(__file__).parents[1] / "conftest.py").read_text()

BODY = """
import pytest
@pytest.mark.needs("python3")
def test_present(): pass
@pytest.mark.needs("python3", "no-such-program")
def test_absent(): raise AssertionError("must not run")
"""


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(BODY)
    return pytester


def test_missing_capability_skips_with_its_name(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K2_REQUIRE_ALL", raising=False)
    result = inner.runpytest_subprocess("-rs", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*needs no-such-program: no-such-program is not on PATH*"])


def test_missing_capability_fails_when_all_are_required(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_REQUIRE_ALL", "1")
    result = inner.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*this test needs no-such-program*"])
