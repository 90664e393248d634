"""A counterexample is small, still one, and shown with what both programs did."""

from __future__ import annotations

import pytest

from k2_tools.side_by_side import side_by_side
from tests.prover.obligations import obligation
from tests.prover.test_mutants import questions
from tests.prover.test_windows import ROWS, Row
from verifier_model.bpf.asm import parse_function
from verifier_model.bpf.concrete import alu
from verifier_model.bpf.isa import BY_NAME
from verifier_model.bpf.unit import Unit
from verifier_model.prover import Limits, prove, prove_functions
from verifier_model.verdict import Counterexample, Status

AS_FOUND = Limits(shrink_tests=0)


def weight(found: Counterexample) -> int:
    """Bits that are set, addresses apart."""
    return sum(value.bit_count() for value in found.registers[:6]) + sum(byte.bit_count() for _, byte in found.memory)


def refuted(before: str, after: str, demand: str = "r0", entry: str = "r1 scalar; r2 scalar") -> Counterexample:
    found = prove(obligation(entry, before, after, demand)).counterexample
    assert found is not None
    return found


def test_one_bit_is_enough() -> None:
    found = refuted("r0 = r1; r0 >>= 4", "r0 = r1; r0 >>= 5")
    assert weight(found) == 1 and found.registers[1].bit_count() == 1 and found.registers[2] == 0
    number = found.registers[1]
    assert alu(BY_NAME["rsh64_imm"], number, 4) != alu(BY_NAME["rsh64_imm"], number, 5)
    assert refuted("r0 = 1", "r0 = 2").registers[:10] == (0,) * 10


def test_what_the_facts_ask_for_stays() -> None:
    found = refuted("r0 = r1", "r0 = 5", entry="r1 scalar range=4..7")
    assert found.registers[1] == 4
    found = refuted("r0 = r1; r0 *= r2", "r0 = r1", entry="r1 scalar umin=3; r2 scalar umin=6 umax=9")
    assert found.registers[1] >= 3 and 6 <= found.registers[2] <= 9


DIFFERING = [row for row in ROWS if not row.difference.startswith("event")]


@pytest.mark.parametrize("row", DIFFERING[::4], ids=lambda row: row.name)
def test_never_larger_and_about_the_same_observable(row: Row) -> None:
    question = obligation(row.entry, row.before, row.twin, row.demand, row.program_type, row.order)
    small, found = prove(question).counterexample, prove(question, AS_FOUND).counterexample
    assert small is not None and found is not None
    assert small.difference.split(":")[0] == found.difference.split(":")[0] == row.difference.split(":")[0]
    assert weight(small) <= weight(found)
    assert found.steps == ((), ()), "the search pays for nothing that only people read"


def test_random_windows_keep_their_verdicts() -> None:
    gain = []
    for question in questions("little")[::9]:
        small, found = prove(question), prove(question, AS_FOUND)
        assert small.status is found.status
        if small.counterexample is not None and found.counterexample is not None:
            gain.append(weight(found.counterexample) - weight(small.counterexample))
            assert gain[-1] >= 0
    assert len(gain) > 20 and sum(gain) > 20 * len(gain)


def test_table_shows_values_of_both_sides() -> None:
    lines = list(side_by_side(refuted("r0 = r1; r0 += 1", "r0 = r1; r0 += 2")))
    assert lines[0].startswith("start: r10 = ") and "," not in lines[0], "all others are 0"
    (changed,) = (line for line in lines if line.startswith("*"))
    assert "r0 += 1" in changed and "0x1" in changed and "r0 += 2" in changed and changed.endswith("0x2")
    assert lines[-1] == "differs: r0: 0x1 before, 0x2 after"


def test_table_of_whole_functions_follows_the_way_that_was_taken() -> None:
    text = "L0:\n  r1 = *(u32 *)(r1 + 12)\n  if r1 > 4 goto L2\nL1:\n  r0 = 1\n  exit\nL2:\n  r0 = {}\n  exit\n"
    first, second = (
        parse_function(text.format(number), "main", section="xdp", program_type="xdp") for number in (2, 3)
    )
    verdict = prove_functions(first, second, Unit((first,)))
    assert verdict.status is Status.REFUTED and verdict.counterexample is not None
    lines = list(side_by_side(verdict.counterexample))
    assert sum(line.startswith("*") for line in lines) == 1
    assert any("if r1 > 0x4 goto L2" in line and "taken" in line for line in lines)
    assert not any("r0 = 1" in line for line in lines), "that block is not on the way"


def test_long_tables_leave_out_what_is_equal() -> None:
    steps = tuple((f"r1 = {number}", number) for number in range(300))
    other = (*steps[:200], ("r1 = 7", 7), *steps[201:])
    lines = list(side_by_side(Counterexample((0,) * 11, ((16, 1), (17, 2), (30, 3)), (0, 4), "r1", (steps, other))))
    assert len(lines) < 20 and "[0x10] 01 02, [0x1e] 03" in lines[1] and lines[2] == "calls return: 0x0, 0x4"
    assert any("equal lines" in line for line in lines) and sum(line.startswith("*") for line in lines) == 1
