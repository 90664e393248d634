"""Make `.venv`: everything that `make` needs, with nothing but a Python that has venv.

Run by the Makefile with the system's Python and only the standard library: `python3 k2_tools/bootstrap.py demo`.
The argument is `demo`, `test` or `dev`.  What cannot be had ends the run with one sentence on stderr and status 1.
"""

from __future__ import annotations

import configparser
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
ZIG_TOOLS = VENV / "zig"
ZIG_VERBS = {"cc": "cc", "c++": "c++", "ar": "ar", "ranlib": "ranlib"}


class MissingPieceError(Exception):
    """A piece that we cannot fetch; the message names it and the package that has it."""


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


def run(*command: str | Path, environment: dict[str, str] | None = None, what: str) -> None:
    """Run quietly; on failure show what the command said and raise MissingPieceError with the sentence `what`."""
    done = subprocess.run([str(word) for word in command], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        raise MissingPieceError(what)


def pip(*words: str, environment: dict[str, str] | None = None, what: str) -> None:
    flags = ("--quiet", "--disable-pip-version-check", "--no-input")
    run(PYTHON, "-m", "pip", "install", *flags, *words, environment=environment, what=what)


def make_venv() -> None:
    if (PYTHON.parent / "pip").exists():  # the last thing that venv makes
        return
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise MissingPieceError("Python's venv module is missing: install the Debian package python3-venv")
    say("making .venv")
    run(sys.executable, "-m", "venv", VENV, what="could not make .venv: install the Debian package python3-venv")


def demo_requirement(name: str) -> str:
    """The line of setup.cfg's extra `demo` for the package `name`: its range of versions stands there alone."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.extras_require"]["demo"].splitlines()
    return next(line for line in lines if line.split(" ")[0] == name)


def build_requirements() -> list[str]:
    """What pyproject.toml's build needs, and CMake and ninja, so that nothing of the build is asked of the system."""
    import tomllib  # only here: an older Python must get as far as being told that it is too old

    with (ROOT / "pyproject.toml").open("rb") as file:
        requires: list[str] = tomllib.load(file)["build-system"]["requires"]
    return [*requires, demo_requirement("cmake"), demo_requirement("ninja")]


def find(*names: str) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)


def native_tools() -> dict[str, str]:
    """Variables for the native build; where the system has no C++ compiler, with zig behind cc, c++, ar and ranlib."""
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    if os.environ.get("CXX") or find("c++", "g++", "clang++"):
        return {"PATH": path}
    say("no C++ compiler on PATH: using the one in the ziglang wheel")
    pip(
        demo_requirement("ziglang"),
        what="could not install ziglang, which stands in for a C++ compiler (Debian package g++)",
    )
    ZIG_TOOLS.mkdir(parents=True, exist_ok=True)
    for tool, verb in ZIG_VERBS.items():
        script = ZIG_TOOLS / tool
        script.write_text(f'#!/bin/sh\nexec "$(dirname "$0")/../bin/python" -m ziglang {verb} "$@"\n')
        script.chmod(0o755)
    (ZIG_TOOLS / "strip").write_text("#!/bin/sh\n# zig links without symbols in release builds\nexit 0\n")
    (ZIG_TOOLS / "strip").chmod(0o755)
    compilers = {"CC": str(ZIG_TOOLS / "cc"), "CXX": str(ZIG_TOOLS / "c++")}
    return {"PATH": f"{ZIG_TOOLS}{os.pathsep}{path}", **compilers}


def python_headers() -> dict[str, str]:
    """Variables that lead CMake to Python's C headers: none where they are installed, else to Debian's, unpacked.

    apt-get can download without root when it keeps its state in a folder of ours.
    """
    if (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return {}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    package = f"libpython{version}-dev"
    missing = f"Python's C headers are missing: install the Debian package python3-dev ({package})"
    folder = VENV / "headers"
    include = folder / "usr" / "include"
    if not (include / f"python{version}" / "Python.h").exists():
        if find("apt-get") is None or find("dpkg-deb") is None:
            raise MissingPieceError(missing)
        say(f"no Python.h: unpacking {package} into .venv")
        lists = folder / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        options = ["-q", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={folder}", "-o", "APT::Sandbox::User="]
        run("apt-get", *options, "update", what=missing)
        script = f'cd "{folder}" && apt-get {" ".join(options)} download {package} && dpkg-deb -x {package}_*.deb .'
        run("sh", "-c", script, what=missing)
        shutil.rmtree(lists)
    return {"CMAKE_ARGS": f"-DPython_INCLUDE_DIR={include / f'python{version}'}", "CXXFLAGS": f"-isystem {include}"}


def install(extras: str) -> None:
    """The project itself, editable, with its native engine; build tools from the environment, not a fresh one."""
    pip(*build_requirements(), what="could not install the build tools from the Python package index")
    environment = {**os.environ, "CMAKE_GENERATOR": "Ninja", **native_tools(), **python_headers()}
    say("building the engine and installing k2-clang")
    target = f".[{extras}]" if extras else "."
    pip("--no-build-isolation", "--editable", target, environment=environment, what="could not install k2-clang")


def provide_clang() -> None:
    """The ziglang wheel, where neither K2_CLANG nor PATH has a clang for BPF."""
    probe = "from llvm_bridge.toolchain import find_clang; find_clang()"
    known = subprocess.run([PYTHON, "-c", probe], cwd=ROOT, capture_output=True)
    if known.returncode == 0:
        return
    say("no clang on PATH: using the one in the ziglang wheel")
    pip(demo_requirement("ziglang"), what="no clang, and ziglang could not be installed (Debian package clang)")


def install_debian_packages(listing: Path) -> None:
    """The packages that `listing` names, one a line; nothing without root, without apt, or when all are there."""
    if os.geteuid() != 0 or find("apt-get") is None:
        return
    wanted = [line.strip() for line in listing.read_text().splitlines() if line.strip() and not line.startswith("#")]
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted]
    known = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
    absent = [name for name in wanted if f"{name} installed" not in known]
    if not absent:
        return
    say("installing Debian packages for the tests: " + " ".join(absent))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *absent]
    if subprocess.run(command, env=environment, capture_output=True).returncode != 0:
        run("apt-get", "update", "-qq", what="apt-get update failed: the tests' Debian packages cannot be had")
        run(*command, environment=environment, what="these Debian packages could not be installed: " + " ".join(absent))


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036  the Makefile's python3 may be any
        print("setup: Python 3.11 or later is needed (Debian package python3, Debian 12 or later)", file=sys.stderr)
        return 1
    purpose = sys.argv[1]
    try:
        make_venv()
        if purpose == "test":
            install_debian_packages(ROOT / "tests" / "debian-packages.txt")
        install("" if purpose == "demo" else purpose)
        provide_clang()
    except MissingPieceError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
