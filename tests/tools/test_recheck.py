"""Certificates: written, checked again, and never believed once a bit of them has changed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from k2_tools.certificate_folder import NoCertificateError, read_folder
from k2_tools.cli import main
from k2_tools.rechecking import other_symbols
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from object_stage import Outcome, optimise_bytes, write_certificate
from synth.certificate import INPUT, MANIFEST, OUTPUT, SCHEMA, digest, sealed
from synth.settings import Settings
from tests.end_to_end.objects import EXAMPLES, compiled
from tests.wrapper.harness import environment, fill, launcher
from verifier_model.bpf.insn import RefKind
from verifier_model.bpf.unit import Block

SEED = 11
FLIPS = 300
PASSES = Settings(tiers=("passes",), last=6, certificate="asked for")
EXAMPLE = "xdp_router"

pytestmark = pytest.mark.needs("clang-19", "bitwuzla")
Value = dict[str, Any]


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return optimise_bytes(compiled(EXAMPLE), PASSES, 3)


@pytest.fixture
def folder(outcome: Outcome, tmp_path: Path) -> Path:
    return Path(write_certificate(str(tmp_path / "certificates"), "x.o", outcome))


def k2(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_manifest_ties_the_files_to_the_bytes(outcome: Outcome, folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["schema"] == SCHEMA and manifest["tools"]["solver"].startswith("z3 ")
    assert (folder / INPUT).read_bytes() == compiled(EXAMPLE) and (folder / OUTPUT).read_bytes() == outcome.data
    assert manifest["output"]["sha256"] == hashlib.sha256(outcome.data).hexdigest()
    recorded = [rewrite for function in outcome.record.functions for rewrite in function.rewrites]
    assert len(manifest["rewrites"]) == len(recorded) > 0
    for listed, rewrite in zip(manifest["rewrites"], recorded, strict=True):
        assert [insn["text"] for insn in listed["after"]] == rewrite.after.splitlines()
        assert (listed["number"], listed["proposer"]) == (rewrite.number, rewrite.proposer)
        assert set(listed["derived"]) == set(listed["facts"])
        for name in listed["files"]:
            text = (folder / name).read_text()
            assert rewrite.proposer in text and text.rstrip().endswith("(check-sat)")


@pytest.mark.parametrize("solver", ["bitwuzla", "z3", pytest.param("cvc5", marks=pytest.mark.needs("cvc5"))])
def test_every_solver_confirms_it(folder: Path, solver: str) -> None:
    done = k2("recheck", folder, "--solver", solver)
    assert done.exit_code == 0, done.output
    count = len(json.loads((folder / MANIFEST).read_text())["rewrites"])
    assert f"{count} confirmed, 0 contradicted, 0 unknown by {solver} " in done.output
    assert done.output.count("confirmed:") == count, "one line for each rewrite"
    assert k2("recheck", "-q", folder.parent, "--object", folder / OUTPUT).exit_code == 0
    assert k2("recheck", "-q", folder.parent, "--object", folder / INPUT).exit_code == 1


def test_same_bytes_from_another_process(outcome: Outcome, tmp_path: Path) -> None:
    source = tmp_path / "x.o"
    source.write_bytes(compiled(EXAMPLE))
    program = """
import sys
from object_stage import optimise_bytes
from synth.settings import Settings
settings = Settings(tiers=("passes",), last=6, certificate="asked for")
for name, data in sorted(optimise_bytes(open(sys.argv[1], "rb").read(), settings, 3).certificate.items()):
    sys.stdout.buffer.write(name.encode() + data)
"""
    variables = {**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(source)], env=variables, capture_output=True, check=True, timeout=120
    )
    assert done.stdout == b"".join(name.encode() + data for name, data in sorted(outcome.certificate.items()))


def test_without_rewrites_it_says_so(tmp_path: Path) -> None:
    settings = replace(PASSES, tiers=("none",))
    write_certificate(str(tmp_path), "x.o", optimise_bytes(compiled(EXAMPLE), settings, 3))
    done = k2("recheck", tmp_path)
    assert done.exit_code == 0 and "no rewrite to confirm" in done.output
    assert k2("recheck", tmp_path / "x.o-000000000000").exit_code == 2


# ---- tampering ----


def contradictions(folder: Path) -> list[str]:
    """What `k2 recheck` has against the folder."""
    done = k2("recheck", "-q", folder)
    assert (done.exit_code == 1) == ("contradicted:" in done.output) and "Traceback" not in done.output, done.output
    return [line for line in done.output.splitlines() if ": contradicted: " in line]


def test_a_flipped_bit_anywhere_is_found(folder: Path) -> None:
    rng = random.Random(SEED)
    files = sorted(folder.iterdir())
    assert read_folder(folder).faults == ()
    for number in range(FLIPS):
        path = files[number % len(files)]
        data = path.read_bytes()
        at, bit = rng.randrange(len(data)), rng.randrange(8)
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        try:
            assert read_folder(folder).faults, f"seed {SEED}: bit {bit} of byte {at} of {path.name}"
        except NoCertificateError:
            assert path.name == MANIFEST
        if number < 5:
            assert contradictions(folder)
        path.write_bytes(data)
    assert contradictions(folder) == []


def test_files_that_are_missing_or_too_many_are_found(folder: Path) -> None:
    (folder / "more.smt2").write_text("(check-sat)\n")
    assert contradictions(folder)
    (folder / "more.smt2").unlink()
    (folder / "more").mkdir()
    assert contradictions(folder)
    (folder / "more").rmdir()
    assert contradictions(folder) == []
    query = next(folder.glob("0001-*.smt2"))
    data = query.read_bytes()
    query.unlink()
    assert contradictions(folder)
    query.write_bytes(data)
    (folder / MANIFEST).rename(folder / "other.json")
    assert k2("recheck", folder.parent).exit_code == 1


def reseal(folder: Path, change: Callable[[Value], None]) -> None:
    """Change the manifest as somebody would who knows the format: all digests fit afterwards."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    for rewrite in (*manifest["rewrites"], *manifest["wholes"]):
        rewrite["files"] = {name: digest((folder / name).read_bytes()) for name in rewrite["files"]}
    for side in ("input", "output"):
        data = (folder / f"{side}.o").read_bytes()
        manifest[side] |= {"sha256": digest(data), "bytes": len(data)}
    (folder / MANIFEST).write_bytes(sealed(manifest))


def first_with(manifest: Value, name: str) -> Value:
    found: Value = next(rewrite for rewrite in manifest["rewrites"] if rewrite[name])
    return found


def stronger_fact(manifest: Value) -> None:
    facts = manifest["rewrites"][0]["facts"]
    place = next(place for place in facts if place not in ("r10",))
    facts[place] = {"region": "scalar", "value": [7, 0, 7, 7, 7, 7, 7, 7, 7, 7]}


def less_demand(manifest: Value) -> None:
    registers = manifest["rewrites"][0]["demand"]["regs"]
    registers.pop(next(name for name in registers if name != "r10"))


def other_order(manifest: Value) -> None:
    rewrites = manifest["rewrites"]
    rewrites[0], rewrites[1] = rewrites[1], rewrites[0]


def renumbered_order(manifest: Value) -> None:
    rewrites = manifest["rewrites"]
    rewrites[0], rewrites[1] = rewrites[1], rewrites[0]
    for number, rewrite in enumerate(rewrites, 1):
        rewrite["number"], rewrite["applied"] = number, number - 1


def dropped(manifest: Value) -> None:
    manifest["rewrites"].pop()


def other_point(manifest: Value) -> None:
    manifest["rewrites"][0]["point"]["start"] -= 1
    manifest["rewrites"][0]["point"]["stop"] -= 1


def from_the_end(manifest: Value) -> None:
    point = manifest["rewrites"][0]["point"]
    length = 64
    point["start"] -= length
    point["stop"] -= length


def other_replacement(manifest: Value) -> None:
    rewrite = first_with(manifest, "after")
    rewrite["after"] = rewrite["after"][:-1]


def other_text(manifest: Value) -> None:
    first_with(manifest, "after")["after"][0]["text"] = "r0 = 1"


def other_basis(manifest: Value) -> None:
    manifest["rewrites"][-1]["basis"] += 1


def other_derivation(manifest: Value) -> None:
    derived = manifest["rewrites"][0]["derived"]
    derived[next(iter(derived))] = ["because I say so"]


def other_function(manifest: Value) -> None:
    manifest["functions"][0]["after"]["sha256"] = "0" * 64


def other_section(manifest: Value) -> None:
    manifest["functions"][0]["section"] = "tc"


def other_method(manifest: Value) -> None:
    manifest["rewrites"][0]["method"] = "by eye"


def unknown_field(manifest: Value) -> None:
    manifest["rewrites"][0]["trust"] = True


@pytest.mark.parametrize(
    "change",
    [
        stronger_fact,
        less_demand,
        other_order,
        renumbered_order,
        dropped,
        other_point,
        from_the_end,
        other_replacement,
        other_text,
        other_basis,
        other_derivation,
        other_function,
        other_section,
        other_method,
        unknown_field,
    ],
)
def test_a_forged_manifest_with_fitting_digests_is_found(folder: Path, change: Callable[[Value], None]) -> None:
    reseal(folder, lambda manifest: None)
    assert contradictions(folder) == [], "sealing by itself changes nothing"
    reseal(folder, change)
    assert contradictions(folder)


def test_an_easier_question_in_the_file_is_found(folder: Path) -> None:
    query = next(path for path in sorted(folder.glob("0001-*.smt2")) if ".sat." not in path.name)
    text = query.read_text()
    query.write_text(text.replace("(check-sat)", "(assert false)\n(check-sat)"))
    reseal(folder, lambda manifest: None)
    assert any("does not ask the question" in line for line in contradictions(folder))


def test_swapped_questions_are_found(folder: Path) -> None:
    one, two = (
        next(path for path in sorted(folder.glob(f"000{number}-*.smt2")) if ".sat." not in path.name)
        for number in (1, 2)
    )
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)
    reseal(folder, lambda manifest: None)
    assert len(contradictions(folder)) >= 2


@pytest.mark.parametrize("side", ["input", "output"])
def test_another_object_is_found(folder: Path, side: str) -> None:
    path = folder / f"{side}.o"
    data = path.read_bytes()
    at = data.index(bytes.fromhex("9500000000000000"))  # an exit: r0 = r0 + 1 in front of it would do as well
    path.write_bytes(data[: at - 4] + bytes([data[at - 4] ^ 1]) + data[at - 3 :])
    reseal(folder, lambda manifest: None)
    assert contradictions(folder)


# ---- the wrapper ----


def test_the_wrapper_writes_certificates_before_the_object(tmp_path: Path) -> None:
    sources = fill(tmp_path / "work")
    clang = str(launcher(tmp_path / "bin"))
    command = [clang, "-O2", "-g", "--target=bpf", "-mcpu=v3", "-c", "prog.c", "-o", "prog.o"]
    variables = environment(K2_CLANG="clang-19", K2_CERTIFICATE="proofs", K2_EFFORT="0")
    subprocess.run(command, cwd=sources, env=variables, check=True, timeout=120)
    data = (sources / "prog.o").read_bytes()
    (made,) = (sources / "proofs").iterdir()
    assert made.name == f"prog.o-{hashlib.sha256(data).hexdigest()[:12]}"
    assert k2("recheck", sources / "proofs", "--object", sources / "prog.o").exit_code == 0
    (sources / "blocked").write_text("a file")
    variables["K2_CERTIFICATE"] = "blocked"
    done = subprocess.run(command, cwd=sources, env=variables, capture_output=True, timeout=120)
    assert done.returncode == 0 and b"the compiler's object was kept" in done.stderr
    kept = (sources / "prog.o").read_bytes()
    plain = ["clang-19", *command[1:]]
    subprocess.run(plain, cwd=sources, check=True, timeout=120)
    assert kept == (sources / "prog.o").read_bytes()


def test_a_symbol_that_is_not_the_one_that_was_proved_is_found() -> None:
    """The text says one map, the index into the symbol table another."""
    source = read_object(compiled(EXAMPLE), 3)
    assert not isinstance(source, Untouched)
    assert list(other_symbols(source.unit, source)) == []
    function = source.unit.functions[0]
    point, insn = next((point, insn) for point, insn in function.insns() if insn.ref and insn.ref.kind is RefKind.MAP)
    assert insn.ref is not None
    name = next(name for name in sorted(source.unit.maps) if name not in (insn.ref.name, ".rodata"))
    insns = list(function.block(point.label).insns)
    insns[point.at] = replace(insn, ref=replace(insn.ref, name=name))
    unit = source.unit.with_function(function.with_block(Block(point.label, tuple(insns))))
    assert [line.split(":")[0] for line in other_symbols(unit, source)] == [function.name]
