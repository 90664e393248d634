"""Claims about rewrites: proved again on the program they are applied to, or contradicted by another solver."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import synth.certificate as making
from k2_tools.certificate_folder import read_folder
from k2_tools.rechecking import recheck
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object
from synth.certificate import CertificateError, claims
from synth.pipeline import Journal, Step
from synth.rewrite import Rewrite, Window, apply
from synth.settings import Settings
from tests.end_to_end.objects import compiled
from verifier_model.bpf.asm import parse_function, parse_insns
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.derivation import Derivation, Origins
from verifier_model.facts import analyse
from verifier_model.prover.second_solver import Bounds
from verifier_model.verdict import Status, Verdict

EXAMPLE = "xdp_router"

SMALL = parse_function("L0:\n  r0 = 3\n  r1 = 4\n  r0 += r1\n  exit\n", "main", section="xdp", program_type="xdp")


def step(function: Function, start: int, stop: int, after: str, basis: int = 0) -> Step:
    before = function.blocks[0].insns[start:stop]
    rewrite = Rewrite(Window("L0", start, stop), before, parse_insns(after), "test", "by hand")
    return Step(rewrite, "solver", apply(function, rewrite), basis)


def test_no_claim_for_what_is_not_proved() -> None:
    unit = Unit((SMALL,))
    (claim,) = claims(unit, SMALL, (step(SMALL, 0, 3, "r0 = 7"),), 1)
    assert claim.basis == 0 and claim.number == 1
    with pytest.raises(CertificateError, match="main: rewrite 1 is not proved again"):
        list(claims(unit, SMALL, (step(SMALL, 0, 3, "r0 = 8"),), 1))


BATCH = """L0:
  r1 = *(u32 *)(r1 + 12)
  r3 = r1
  r3 &= 3
  goto L1
L1:
  r2 = r3
  r2 &= 3
  if r2 > 2 goto L3
L2:
  r0 = r3
  r0 += r1
  exit
L3:
  r0 = 9
  exit
"""


def test_facts_that_an_earlier_rewrite_hides_are_those_of_the_batch() -> None:
    """x & 3 as x + 3 - (x | 3): equal, but no domain of ours sees the bound of the result any more."""
    function = parse_function(BATCH, "main", section="xdp", program_type="xdp")
    unit = Unit((function,))
    hiding = step(function, 1, 3, "r3 = r1\nr2 = r1\nr2 |= 3\nr3 += 3\nr3 -= r2")
    before = function.block("L1").insns[:2]
    using = Rewrite(Window("L1", 0, 2), before, parse_insns("r2 = r3"), "test", "by hand")
    steps = (hiding, Step(using, "solver", apply(hiding.function, using), 0))
    first, second = claims(unit, function, steps, 1)
    assert (first.basis, second.basis, second.applied) == (0, 0, 1)
    alone = Step(using, "solver", apply(hiding.function, using), 1)
    with pytest.raises(CertificateError):  # facts of the program behind the first do not prove the second
        list(claims(unit, function, (hiding, alone), 1))


@pytest.mark.needs("clang-19", "bitwuzla")
def test_a_proved_looking_certificate_of_a_wrong_rewrite_is_contradicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's prover is wrong: it says PROVED to everything.  The second solver does not."""

    class Wrong:
        @staticmethod
        def prove(obligation: object) -> Verdict:
            return Verdict(Status.PROVED, method="simplified")

    image = compiled(EXAMPLE)
    source = read_object(image, 3)
    assert not isinstance(source, Untouched)
    function = source.unit.functions[0]
    block = next(
        b for b in function.blocks if any(i.row.name == "mov32_imm" or i.row.name == "mov64_imm" for i in b.insns)
    )
    at = next(n for n, insn in enumerate(block.insns) if insn.row.name in ("mov32_imm", "mov64_imm"))
    wrong = replace(block.insns[at], imm=block.insns[at].imm ^ 1)
    rewrite = Rewrite(Window(block.label, at, at + 1), block.insns[at : at + 1], (wrong,), "test", "wrong by a bit")
    changed = apply(function, rewrite)
    new = write_object(source, source.unit.with_function(changed))
    assert isinstance(new, bytes)
    written = read_object(new, 3)
    assert not isinstance(written, Untouched)
    monkeypatch.setattr(making, "prove", Wrong.prove)
    images = making.Images(image, new, source.code_bytes(), written.code_bytes())
    journal: Journal = {function.name: (Step(rewrite, "simplified", changed, 0),)}
    files = making.certificate(source.unit, journal, images, Settings(), {})
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    found = list(recheck(read_folder(tmp_path), "bitwuzla", Bounds()))
    assert [finding.word for finding in found] == ["contradicted"]
    assert "tells the two programs apart" in found[0].reason


ORIGINS = """L0:
  r6 = *(u32 *)(r1 + 12)
  *(u64 *)(r10 - 8) = r6
  if r6 > 4 goto L2
L1:
  r6 = 7
L2:
  r0 = r6
  exit
"""


def test_a_fact_comes_from_every_instruction_that_may_have_set_the_value() -> None:
    function = parse_function(ORIGINS, "main", section="xdp", program_type="xdp")
    origins = Origins(analyse(Unit((function,)), function))
    assert origins.register(Point("L2", 0), 6) == Derivation((Point("L0", 0), Point("L1", 0)), (Point("L0", 2),), False)
    assert origins.register(Point("L1", 0), 6).set_at == (Point("L0", 0),)
    assert origins.register(Point("L2", 1), 0).set_at == (Point("L2", 0),)
    start = origins.register(Point("L2", 0), 1)
    assert start.from_start and not start.set_at
    assert origins.slot(Point("L2", 0), -8).set_at == (Point("L0", 1),)
    assert origins.slot(Point("L2", 0), -16).from_start
    assert origins.register(Point("L2", 0), 6).lines(function) == [
        "set by L0:0: r6 = *(u32 *)(r1 +12)",
        "set by L1:0: r6 = 7",
        "bounded by L0:2: if r6 > 0x4 goto L2",
    ]
