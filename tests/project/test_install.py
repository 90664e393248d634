"""The wheel is whole: entry points, data files, native engine; and it works away from the source tree."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_BEHIND = (".git", ".venv", "build", "*.so", "*.egg-info", "__pycache__", "demo-out", ".*_cache")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *flags, str(source)],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_everything_and_only_ours(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    ours = {"synth", "verifier_model", "llvm_bridge", "k2_tools"}
    assert tops == ours | {"clang_wrapper.py", "object_stage.py", "processes.py"}
    assert any(name.startswith("synth/_engine") and name.endswith(".so") for name in names)
    for package in ours:
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".csv", ".html", ".toml", ".json", ".txt") and "__pycache__" not in path.parts:
                assert str(path.relative_to(ROOT)) in names


def test_entry_points_work_away_from_the_sources(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    entry = configparser.ConfigParser()
    entry.read(next(site.glob("*.dist-info")) / "entry_points.txt")
    assert set(entry["console_scripts"]) == {"k2-clang", "k2-llc", "k2"}
    for name, target in entry["console_scripts"].items():
        module, function = target.split(":")
        program = f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv = [{name!r}, '--version']\n"
        program += f"from {module} import {function}; import {module}\n"
        program += f"assert {module}.__file__.startswith({str(site)!r})\nsys.exit({function}())"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("K2_")}
        if name == "k2-llc" and shutil.which("llc") is None and shutil.which("llc-19") is None:
            continue
        done = subprocess.run(
            [sys.executable, "-P", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0 and "k2" in done.stdout, done.stderr
