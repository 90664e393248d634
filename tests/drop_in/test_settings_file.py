"""k2.toml: found upwards from each output, behind the environment, and never trusted with more than tuning."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from k2_tools.cli import main
from synth.settings import ROWS, Settings
from synth.settings_file import effective, read
from tests.drop_in.compilers import fast_launcher
from tests.drop_in.rows import SOURCES
from tests.wrapper.harness import Seen, fill, observe

TELLING = """
import object_stage
from synth.record import Record
def tell(data, settings, cpu_level=None, second=None):
    return object_stage.Outcome(data + f"|{settings.goal} {settings.seed}".encode(), Record(()))
object_stage.optimise_bytes = tell
"""


def test_nearest_file_alone_counts_and_the_environment_goes_before_it(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "k2.toml").write_text('goal = "size"\nseed = 3\nskip_funcs = ["x*", "y"]\nverbose = true\n')
    (tmp_path / "a" / "k2.toml").write_text("seed = 4\n")
    outer = effective({}, str(tmp_path / "x.o"))
    assert outer.settings == Settings(goal="size", seed=3, skip_funcs=("x*", "y"), verbose=True)
    assert outer.problems == () and outer.origins["goal"] == str(tmp_path / "k2.toml")
    for output in (inner / "x.o", tmp_path / "a" / "b" / "absent" / "x.o"):
        assert effective({}, str(output)).settings == Settings(seed=4)
    found = effective({"K2_SEED": "5", "K2_GOAL": ""}, str(tmp_path / "x.o"))
    assert (found.settings.seed, found.settings.goal) == (5, "size"), "an empty variable counts as unset"
    assert (found.origins["seed"], found.origins["effort"]) == ("K2_SEED", "default")
    assert effective({"K2_CONFIG": "none"}, str(inner / "x.o")).settings == Settings(config="none")
    chosen = str(tmp_path / "k2.toml")
    assert effective({"K2_CONFIG": chosen}, str(inner / "x.o")).settings.seed == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('gaol = "size"', "unknown setting gaol, did you mean goal?"),
        ('xyzzyxyzzy = "size"', "unknown setting xyzzyxyzzy"),
        ('clang = "/tmp/evil"', "clang is taken from the environment alone (K2_CLANG)"),
        ('report = "/etc/passwd"', "report is taken from the environment alone (K2_REPORT)"),
        ('certificate = "/etc"', "certificate is taken from the environment alone (K2_CERTIFICATE)"),
        ('gate = "kernel"', "gate is taken from the environment alone (K2_GATE)"),
        ('skip_funcs = ["a b"]', "skip_funcs is neither text, number, true or false"),
        ("seed = 1.5", "seed is neither text, number, true or false"),
        ("seed = -1", "K2_SEED='-1': expected a number from 0"),
        ("seed = ", "nothing is optimised"),
        ("seed = 1\nseed = 2", "nothing is optimised"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_the_file(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "k2.toml"
    path.write_text(text)
    found = effective({}, str(tmp_path / "x.o"))
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{path}: ") and problem in found.problems[0] and "\n" not in found.problems[0]
    assert found.settings in (Settings(), Settings(disable=True))
    assert found.settings.disable == ("nothing is optimised" in found.problems[0])


def test_nothing_that_names_a_program_or_a_place_can_stand_in_a_file(tmp_path: Path) -> None:
    kept_back = {row.name for row in ROWS if not row.is_for_files}
    assert {"clang", "gate", "report", "certificate", "config"} <= kept_back
    path = tmp_path / "k2.toml"
    path.write_text("".join(f'{name} = "x"\n' for name in sorted(kept_back)))
    told, problems = read(str(path))
    assert told == {} and len(problems) == len(kept_back)


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fast_launcher(tmp_path_factory.mktemp("bin"), before=TELLING)


def compiled(wrapper: Path, folder: Path, arguments: str, files: dict[str, str], **variables: str) -> Seen:
    work = fill(folder / "work", SOURCES)
    for name, text in files.items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(text)
    return observe([str(wrapper), *shlex.split(arguments)], work, b"", K2_CLANG="clang-19", **variables)


@pytest.mark.needs("clang-19")
def test_each_output_has_the_settings_of_its_own_folder(wrapper: Path, tmp_path: Path) -> None:
    files = {"k2.toml": 'goal = "size"', "sub/k2.toml": "seed = 9"}
    seen = compiled(wrapper, tmp_path, "--target=bpf -O2 -c prog.c -o sub/prog.o", files)
    assert seen.files["sub/prog.o"][1].endswith(b"|balanced 9")
    seen = compiled(wrapper, tmp_path, "--target=bpf -O2 -c prog.c", files, K2_SEED="2")
    assert seen.files["prog.o"][1].endswith(b"|size 2") and seen.stderr == b""
    first = compiled(wrapper, tmp_path, "--version", files).stdout
    assert first != compiled(wrapper, tmp_path, "--version", {}).stdout, "a compiler cache must see the file"
    assert first == compiled(wrapper, tmp_path, "--version", {}, K2_GOAL="size").stdout


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize("strict", ["variable", "file"])
def test_wrong_file_warns_once_and_fails_under_strict(strict: str, wrapper: Path, tmp_path: Path) -> None:
    words = "--target=bpf -O2 -c prog.c"
    lax = compiled(wrapper, tmp_path, words, {"k2.toml": "sead = 1"})
    assert lax.code == 0 and lax.files["prog.o"][1].endswith(b"|balanced 1")
    line = f"k2-clang: {tmp_path}/work/k2.toml: unknown setting sead, did you mean seed?\n"
    assert lax.stderr.decode() == line
    if strict == "variable":
        seen = compiled(wrapper, tmp_path, words, {"k2.toml": "sead = 1"}, K2_STRICT="1")
    else:
        seen = compiled(wrapper, tmp_path, words, {"k2.toml": "sead = 1\nstrict = true"})
    assert seen.code == 1 and "prog.o" not in seen.files and seen.stderr.decode() == line
    for arguments in ("-c host.c", "-E prog.c", "--target=bpf -S prog.c"):
        other = compiled(wrapper, tmp_path, arguments, {"k2.toml": "sead = 1"}, K2_STRICT="1")
        assert other.code == 0 and other.stderr == b"", "no object of ours, no word"


def test_config_prints_values_and_origins(tmp_path: Path) -> None:
    (tmp_path / "k2.toml").write_text('goal = "size"\nsead = 3\n')
    runner = CliRunner(env={"K2_SKIP_FUNCS": "a,b", "K2_SEED": None, "K2_STRICT": None})
    done = runner.invoke(main, ["config", str(tmp_path / "x.o")])
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert lines["goal"] == ["size", str(tmp_path / "k2.toml")]
    assert lines["skip_funcs"] == ["a", "b", "K2_SKIP_FUNCS"]
    assert lines["effort"] == ["1", "default"]
    assert set(lines) == {row.name for row in ROWS} | {"digest"}
    assert "unknown setting sead, did you mean seed?" in done.stderr and done.exit_code == 0
    strict = runner.invoke(main, ["config", str(tmp_path / "x.o")], env={"K2_STRICT": "1"})
    assert strict.exit_code == 1


def test_functions_have_goals_of_their_own() -> None:
    settings = Settings(goal="latency", goal_funcs=("xdp_*=size", "xdp_a=balanced", "t=latency"))
    assert [settings.for_function(name).goal for name in ("xdp_a", "xdp_b", "t", "u")] == [
        "size",
        "size",
        "latency",
        "latency",
    ]
    assert settings.for_function("u") is settings
