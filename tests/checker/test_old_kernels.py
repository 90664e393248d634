"""Each row of what a verifier works out, on a program that needs it: the model beside what emulated kernels said.

A probe is refused without its feature and accepted with it.  The kernels in the emulator were asked once (by
`verifier_model.kernel.oracle`), and `Probe.taken` is what they answered.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from tests.checker.kernel_programs import HEAD, TASK
from tests.checker.programs import Case, unit_of
from tests.llvm_bridge.objects import compile_text
from verifier_model.checker import check
from verifier_model.checker.knowledge import knowledge
from verifier_model.checker.per_kernel import guards
from verifier_model.contracts.kernels import Release, kernels

NUMBER = "r6 = *(u32 *)(r1 +12)\n"
PACKET = "r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\n"
PRINT = "r3 = 0\nr4 = 0\nr5 = 0\ncall 6\n"
DEAD = "r0 = *(u8 *)(r9 +0)\n"  # r9 was never set: only where nobody comes
SPILL, FILL = "*(u64 *)(r10 -16) = r6\n", "r7 = *(u64 *)(r10 -16)\n"
FAR = f"{PACKET}r4 = r2\nr4 += 8\nif r4 > r3 goto far\ngoto out\nfar:\n"
OUT = "out:\nr0 = 0\nexit\n"
INTO_STACK = "r7 += r10\n*(u8 *)(r7 -8) = 0\n"
ASKED: Final[tuple[Release, ...]] = ((5, 10, 262), (6, 1, 192), (6, 12, 117), (6, 18, 15))


class Probe(NamedTuple):
    """`taken`: the asked kernels that accept the text."""

    feature: str
    text: str
    taken: tuple[Release, ...]


ALL, LAST_THREE, LAST_TWO = ASKED, ASKED[1:], ASKED[2:]
PROBES = (
    Probe(
        "linked_narrow_moves",
        f"{NUMBER}r6 &= 255\nw7 = w6\nif r6 > 7 goto out\nr7 -= 8\n{INTO_STACK}{OUT}",
        LAST_TWO,
    ),
    Probe("store_immediate", f"*(u64 *)(r10 -16) = 7\n{FILL}r7 -= 8\n{INTO_STACK}{OUT}", ALL),
    Probe("middle_entries", "r0 = 0\nr2 = 0\ngoto in\nagain:\nr2 += 1\nin:\nif r2 < 4 goto again\nexit\n", LAST_TWO),
    Probe("uninitialised_stack", f"*(u64 *)(r10 -16) = 0\nr0 = *(u32 *)(r10 -8)\n{OUT}", ALL),
    Probe("uninitialised_stack", f"r0 = *(u64 *)(r10 -8)\n{OUT}", LAST_THREE),
    Probe("uninitialised_stack", f"r1 = r10\nr1 += -16\nr2 = 16\n{PRINT}{OUT}", LAST_THREE),
    Probe("beyond_end", f"{FAR}if r4 > r3 goto out\n{DEAD}{OUT}", ALL),
    Probe("ranges_decide", f"{NUMBER}r6 &= 7\nr7 = 8\nif r6 != r7 goto out\n{DEAD}{OUT}", LAST_TWO),
    Probe(
        "ranges_decide",
        f"{NUMBER}r7 = *(u32 *)(r1 +16)\nr6 &= 7\nr7 &= 7\nr7 += 8\nif r6 < r7 goto out\n{DEAD}{OUT}",
        LAST_TWO,
    ),
    Probe(
        "stack_parts", f"{NUMBER}r6 &= 255\n{SPILL}if r6 > 7 goto out\n{FILL}if r7 < 8 goto out\n{DEAD}{OUT}", LAST_TWO
    ),
    Probe(
        "reads_keep_stack",
        f"r6 = 1\n{SPILL}r1 = r10\nr1 += -16\nr2 = 8\n{PRINT}{FILL}r7 -= 8\n{INTO_STACK}{OUT}",
        ASKED[3:],
    ),
)


@pytest.mark.parametrize("release", ASKED, ids=lambda release: ".".join(map(str, release)))
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.feature)
def test_the_model_takes_what_its_kernel_takes(probe: Probe, release: Release) -> None:
    knows = knowledge(release)
    report = check(*unit_of(Case("", probe.text, None)), knows)
    assert report.accepted is getattr(knows, probe.feature)
    assert not report.accepted or release in probe.taken


def test_a_kernel_that_lacks_what_an_older_one_got_late_is_guarded_by_itself() -> None:
    assert knowledge((5, 10, 262)).store_immediate and not knowledge((5, 15, 0)).store_immediate
    late, early = kernels("5.10.262 5.15.0 5.15.189 6.12.117"), kernels("5.10.0 5.15.0 5.15.189 6.12.117")
    for profiles, asked in ((late, [(5, 10, 262), (5, 15, 0)]), (early, [(5, 10, 0)])):
        found = guards(*unit_of(Case("", OUT, None)), profiles)
        assert isinstance(found, tuple)
        assert [guard.knows.release for guard in found] == asked


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize(("license", "taken"), [("Proprietary", [(6, 1, 192)]), ("GPL", [(6, 1, 192), (6, 12, 117)])])
def test_old_kernels_let_every_program_read_their_objects(license: str, taken: list[Release]) -> None:
    text = HEAD.replace("LICENSE", license) + TASK + "return t->pid; }"
    read = read_object(compile_text(text, "clang-19", "bpf", "v3", "-g", "-Wno-everything"))
    assert isinstance(read, Object)
    reports = {r: check(read.unit, read.unit.function("p"), knowledge(r)) for r in ((6, 1, 192), (6, 12, 117))}
    assert [release for release, report in reports.items() if report.accepted] == taken
