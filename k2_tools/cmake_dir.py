"""`k2 cmake-dir`: where find_package(K2) finds us."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

FOLDER: Final = Path(__file__).resolve().parent / "cmake"


@click.command("cmake-dir")
def cmake_dir() -> None:
    """Print the folder for cmake -DK2_DIR=..."""
    click.echo(FOLDER)
