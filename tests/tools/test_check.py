"""`k2 check`: the model's word by kernel, the kernels' own beside it, and its exit status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from k2_tools.cli import main
from tests.llvm_bridge.objects import compile_text
from verifier_model.kernel import oracle as oracle_module
from verifier_model.kernel import types as types_module
from verifier_model.kernel.loader_binary import OracleMissingError
from verifier_model.kernel.questions import Answer, ObjectProgram, Outcome

pytestmark = pytest.mark.needs("clang-19", "libbpf-dev")

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int length(struct xdp_md *context) { return context->data_end - context->data > 60 ? 2 : 1; }
SEC("xdp") int second(struct xdp_md *context)
{
    void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    return CHECK ? *(unsigned char *)(data + 1) & 1 : 2;
}
char _license[] SEC("license") = "GPL";
"""
BOUNDED, UNBOUNDED = "data + 2 <= end", "data <= end"


def object_file(folder: Path, condition: str, cpu: str = "v3") -> Path:
    path = folder / "x.o"
    path.write_bytes(compile_text(SOURCE.replace("CHECK", condition), "clang-19", "bpf", cpu, "-g"))
    return path


def k2_check(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, words)])


def test_accepted_programs_and_their_kernels(tmp_path: Path) -> None:
    done = k2_check(object_file(tmp_path, BOUNDED), "--kernels", "6.1,6.12.117")
    assert done.exit_code == 0, done.output
    head, *rows, legend = done.output.splitlines()[1:]
    assert head.split() == ["program", "type", "6.1.0*", "6.1.192", "6.12.117"]
    assert [row.split()[:3] for row in rows] == [["length", "xdp", "yes"], ["second", "xdp", "yes"]]
    assert "* unverified" in legend
    assert "117*" not in done.output


def test_a_refusal_is_one_line_and_status_1(tmp_path: Path) -> None:
    done = k2_check(object_file(tmp_path, UNBOUNDED), "--kernels", "6.1.192 6.12.117")
    assert done.exit_code == 1
    lines = [line for line in done.output.splitlines() if line.startswith("second at ")]
    assert len(lines) == 1
    assert "packet" in lines[0]
    assert "(6.1" not in lines[0], "all kernels say so"


def test_what_only_new_kernels_know_is_said_of_the_old_ones(tmp_path: Path) -> None:
    text = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    SEC("xdp") int order(struct xdp_md *context) { return __builtin_bswap32(context->rx_queue_index) > 2; }
    """
    path = tmp_path / "x.o"
    path.write_bytes(compile_text(text, "clang-19", "bpf", "v4", "-g"))
    done = k2_check(path, "--kernels", "6.1..6.12")
    assert done.exit_code == 1
    line = done.output.splitlines()[-1]
    assert line.endswith("(6.1.0, 6.1.192)")
    assert "came with 6.6" in line
    assert k2_check(path).exit_code == 0, "the default names the kernels that know the object's level"


def test_bad_input_is_status_2(tmp_path: Path) -> None:
    path = object_file(tmp_path, BOUNDED)
    assert k2_check(path, "--kernels", "2.6").exit_code == 2
    assert k2_check(tmp_path / "absent.o").exit_code == 2
    (tmp_path / "text.o").write_text("text")
    assert k2_check(tmp_path / "text.o").exit_code == 2


@dataclass
class Fake:
    """A kernel that says what it is told to say."""

    release: str
    answers: dict[str, Answer]

    def verdicts(self, questions: Sequence[ObjectProgram], detail: bool = False) -> list[Answer]:
        return [self.answers[question.program] for question in questions]


def test_the_kernels_stand_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accepts = Answer(Outcome.ACCEPTED, 0, "processed 7 insns (limit 1000000)\n")
    refuses = Answer(Outcome.REFUSED, 22, "bad program\nprocessed 3 insns (limit 1000000)\n")
    unasked = Answer(Outcome.UNASKED, 22, "libbpf: map 'm': failed to create\nlibbpf: failed to load object 'k2'\n")
    kernels = {
        "running": Fake("6.18.44", {"length": accepts, "second": accepts}),
        "6.1": Fake("6.1.192", {"length": accepts, "second": refuses}),
        "6.12": Fake("6.12.117", {"length": unasked, "second": accepts}),
    }

    def named(name: str) -> Fake:
        if name not in kernels:
            raise OracleMissingError("there is no such kernel")
        return kernels[name]

    monkeypatch.setattr(oracle_module, "oracle", named)
    monkeypatch.setattr(types_module, "image_types", lambda series: None)
    path = object_file(tmp_path, BOUNDED)
    done = k2_check(path, "--kernels", "6.1.192,6.12.117", "--oracle")
    assert done.exit_code == 1
    assert "second: Linux 6.1.192: bad program" in done.output
    assert "length: Linux 6.12.117: no verdict: map 'm': failed to create" in done.output
    row = next(line for line in done.output.splitlines() if line.startswith("second "))
    assert row.split()[4:6] == ["no", "yes"], "6.1's own word, then the model's of 6.12"
    kernels["6.1"].answers["second"] = kernels["6.12"].answers["length"] = accepts
    assert k2_check(path, "--kernels", "6.1.192,6.12.117", "--oracle").exit_code == 0
    missing = k2_check(path, "--kernels", "5.10.262", "--oracle")
    assert "there is no such kernel" in missing.output
    assert "not asked" in missing.output


@pytest.mark.needs("bpf", "cc")
@pytest.mark.parametrize(("condition", "status", "word"), [(BOUNDED, 0, "yes"), (UNBOUNDED, 1, "no")])
def test_the_running_kernel_agrees(tmp_path: Path, condition: str, status: int, word: str) -> None:
    done = k2_check(object_file(tmp_path, condition), "--kernels", "6.6.98", "--oracle")
    assert done.exit_code == status, done.output
    row = next(line for line in done.output.splitlines() if line.startswith("second ")).split()
    assert row[2] == word
    assert word in row[3:]
