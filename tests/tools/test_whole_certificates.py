"""Certificates of `k2 prove`: whole functions with their cut points, believed no more than rewrites are."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from synth.certificate import MANIFEST, OUTPUT
from tests.tools.test_recheck import Value, contradictions, k2, reseal

pytestmark = pytest.mark.needs("clang-19", "bitwuzla")

SOURCE = """
struct xdp_md { unsigned data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
__attribute__((section("xdp"), used)) int pass(struct xdp_md *context)
{
    unsigned sum = 0, step = context->rx_queue_index;
#pragma clang loop unroll(disable)
    for (unsigned i = 0; i < 8; i++) { sum += step; __asm__ volatile("" : "+r"(sum)); step ^= i; }
    if (__builtin_expect(sum > LIMIT, LIKELY)) { __asm__ volatile("" : "+r"(sum)); return sum + 1; }
    return 2;
}
__attribute__((section("xdp"), used)) int other(struct xdp_md *context) { return context->data == 7 ? NUMBER : 1; }
char _license[] __attribute__((section("license"), used)) = "GPL";
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Objects of one loop laid out in two ways, one that counts further, and the certificate about the first two."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "a.c").write_text(SOURCE)
    for name, limit, likely, number in (
        ("a", 100, 0, "2"),
        ("b", 100, 1, "2u"),
        ("c", 101, 1, "2"),
        ("d", 100, 0, "3"),
    ):
        command = ["clang-19", "-O2", "-g", "--target=bpf", "-mcpu=v3", "-c", "a.c", "-o", f"{name}.o"]
        defines = [f"-DLIMIT={limit}", f"-DLIKELY={likely}", f"-DNUMBER={number}"]
        subprocess.run([*command, *defines], cwd=folder, check=True)
    done = k2("prove", folder / "a.o", folder / "b.o", "--certificate", folder / "proofs")
    assert done.exit_code == 0 and "segments" in done.output, done.output
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    (certificate,) = (made / "proofs").iterdir()
    return Path(shutil.copytree(certificate, tmp_path / "proofs" / certificate.name))


@pytest.mark.parametrize("solver", ["bitwuzla", "z3"])
def test_every_segment_is_asked_again(made: Path, folder: Path, solver: str) -> None:
    done = k2("recheck", folder, "--solver", solver, "--object", made / "b.o")
    assert done.exit_code == 0, done.output
    assert "pass as a whole, 1 cut points: confirmed: " in done.output
    (whole,) = json.loads((folder / MANIFEST).read_text())["wholes"]
    assert whole["cuts"][0]["equalities"] and len(whole["files"]) >= 4


@pytest.mark.parametrize("other", ["c", "d"])
def test_no_certificate_without_proof(made: Path, tmp_path: Path, other: str) -> None:
    done = k2("prove", made / "a.o", made / f"{other}.o", "--certificate", tmp_path / "none")
    assert done.exit_code != 0 and "no certificate" in done.output and not (tmp_path / "none").exists()


def stronger_belief(manifest: Value) -> None:
    manifest["wholes"][0]["cuts"][0]["equalities"][0][1] = {"number": 0}


def weaker_belief(manifest: Value) -> None:
    manifest["wholes"][0]["cuts"][0]["equalities"].pop()


def no_cut(manifest: Value) -> None:
    manifest["wholes"][0]["cuts"].pop()


def other_label(manifest: Value) -> None:
    manifest["wholes"][0]["cuts"][0]["before"] = "L0"


def other_code(manifest: Value) -> None:
    block = next(block for block in manifest["wholes"][0]["after"] if block[1])
    block[1].pop(0)


def other_context(manifest: Value) -> None:
    manifest["wholes"][0]["context"] = "sched_cls"


def no_claim(manifest: Value) -> None:
    manifest["wholes"].clear()


def twice(manifest: Value) -> None:
    manifest["wholes"].append(manifest["wholes"][0])


def made_here(manifest: Value) -> None:
    manifest["kind"] = "made here"


def fewer_questions(manifest: Value) -> None:
    files = manifest["wholes"][0]["files"]
    files.pop(next(iter(files)))


@pytest.mark.parametrize(
    "change",
    [
        stronger_belief,
        weaker_belief,
        no_cut,
        other_label,
        other_code,
        other_context,
        no_claim,
        twice,
        made_here,
        fewer_questions,
    ],
)
def test_a_forged_claim_with_fitting_digests_is_found(folder: Path, change: Callable[[Value], None]) -> None:
    reseal_all(folder, lambda manifest: None)
    assert contradictions(folder) == []
    reseal_all(folder, change)
    assert contradictions(folder)


def reseal_all(folder: Path, change: Callable[[Value], None]) -> None:
    """As somebody would who knows the format, and who throws away the files that are in no list any more."""
    reseal(folder, change)
    manifest = json.loads((folder / MANIFEST).read_text())
    listed = {name for claim in (*manifest["rewrites"], *manifest["wholes"]) for name in claim["files"]}
    for path in folder.glob("*.smt2"):
        if path.name not in listed:
            path.unlink()


def test_another_output_is_found(made: Path, folder: Path) -> None:
    shutil.copy(made / "c.o", folder / OUTPUT)
    reseal(folder, lambda manifest: None)
    assert any("pass: the output holds another function" in line for line in contradictions(folder))
    shutil.copy(made / "d.o", folder / OUTPUT)
    reseal(folder, lambda manifest: None)
    assert any("other: the rewrites give another function" in line for line in contradictions(folder))


def test_an_easier_question_is_found(folder: Path) -> None:
    path = sorted(folder.glob("whole-pass-*.smt2"))[-1]
    path.write_text(path.read_text().replace("(check-sat)", "(assert false)\n(check-sat)"))
    reseal(folder, lambda manifest: None)
    assert any("does not ask its question" in line for line in contradictions(folder))
