"""The `k2` command."""

from __future__ import annotations

import click

from k2_tools.bisect import bisect
from k2_tools.calibrate import calibrate
from k2_tools.check import check
from k2_tools.cmake_dir import cmake_dir
from k2_tools.config import config
from k2_tools.demo import demo
from k2_tools.diff import diff
from k2_tools.lint import lint
from k2_tools.opt import opt
from k2_tools.prove import prove
from k2_tools.recheck import recheck
from k2_tools.report import report
from k2_tools.settings_table import settings
from k2_tools.toolchain import toolchain
from synth.settings import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="k2")
def main() -> None:
    """Smaller and faster BPF objects, proved equivalent."""


for command in (
    opt,
    report,
    diff,
    lint,
    check,
    recheck,
    prove,
    demo,
    settings,
    config,
    bisect,
    toolchain,
    cmake_dir,
    calibrate,
):
    main.add_command(command)
