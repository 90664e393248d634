"""Set-up says in one sentence what is missing and which package has it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from k2_tools import bootstrap
from k2_tools.bootstrap import MissingPieceError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the real .venv."""
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(bootstrap, "ZIG_TOOLS", tmp_path / ".venv" / "zig")
    return tmp_path


def test_missing_venv_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPieceError, match=r"^Python's venv module is missing: .* python3-venv$"):
        bootstrap.make_venv()


def test_missing_headers_name_their_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPieceError, match="python3-dev"):
        bootstrap.python_headers()
    (tmp_path / "Python.h").write_text("")
    assert bootstrap.python_headers() == {}


def test_without_a_compiler_zig_stands_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr(bootstrap, "pip", lambda *words, what: asked.append(words))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    variables = bootstrap.native_tools()
    assert asked == [(bootstrap.demo_requirement("ziglang"),)] and asked[0][0].startswith("ziglang >=")
    assert variables["CXX"] == str(tmp_path / ".venv" / "zig" / "c++") and os.access(variables["CXX"], os.X_OK)
    assert variables["PATH"].startswith(str(tmp_path / ".venv" / "zig"))
    assert "no C++ compiler" in capfd.readouterr().err
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    assert "CXX" not in bootstrap.native_tools() and len(asked) == 1


def test_debian_packages_are_installed_only_when_one_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name, body in (
        ("dpkg-query", 'echo "here installed"; echo "gone not-installed"; exit 1'),
        ("apt-get", f'echo "$@" >> {log}'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    listing = tmp_path / "packages"
    listing.write_text("# comment\nhere\n")
    bootstrap.install_debian_packages(listing)
    assert not log.exists()
    listing.write_text("here\ngone\nunheard-of\n")
    bootstrap.install_debian_packages(listing)
    assert log.read_text() == "install -qq -y --no-install-recommends gone unheard-of\n"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    log.unlink()
    bootstrap.install_debian_packages(listing)
    assert not log.exists()


def test_failing_command_is_shown_with_our_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MissingPieceError, match=r"^the sentence$"):
        bootstrap.run(sys.executable, "-c", "import sys; print('words'); sys.exit(1)", what="the sentence")
    assert "words" in capfd.readouterr().err
    bootstrap.run(sys.executable, "-c", "print('quiet')", what="the sentence")
    assert capfd.readouterr() == ("", "")


def test_old_python_is_told_so(tmp_path: Path) -> None:
    script = Path(bootstrap.__file__)
    program = (
        "import sys, runpy; sys.version_info = (3, 10, 9, 'final', 0);"
        f"sys.argv = ['bootstrap', 'demo']; runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "Python 3.11 or later is needed" in done.stderr
