"""How answers of real kernels are read: what is a verdict on the program, and which helpers a kernel has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from benchmarks.model.availability import call, known, loadable, rows
from benchmarks.model.emulated import Asked, figures, raw_of
from benchmarks.model.fixed_maps import MAPS
from benchmarks.model.oracle import Drawn, compare, kernel_word
from benchmarks.model.slots import SlotProgram
from tests.llvm_bridge.objects import compile_text
from verifier_model.contracts.availability import COLUMNS, GPL_ONLY, Row
from verifier_model.contracts.places import BY_NAME as PLACE
from verifier_model.kernel.questions import Answer, ObjectProgram, Outcome, RawProgram

STATISTICS = "processed 2 insns (limit 1000000) max_states_per_insn 0\n"
ACCEPTED = Answer(Outcome.ACCEPTED, 0, STATISTICS)


def refused(reason: str) -> Answer:
    return Answer(Outcome.REFUSED, 22, f"{reason}\n{STATISTICS}" if reason else "")


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (ACCEPTED, "accepted"),
        (refused("R2 !read_ok"), "refused"),
        (refused("bpf_lsm_x is not sleepable"), "not asked"),
        (refused(""), "not asked"),
        (Answer(Outcome.UNASKED, 22, "libbpf: map 'm': failed to create\n"), "not asked"),
    ],
)
def test_a_refusal_counts_when_it_is_about_the_program(answer: Answer, word: str) -> None:
    assert kernel_word(answer) == word


def test_what_a_bare_call_shows() -> None:
    assert known(ACCEPTED)
    assert known(refused("R1 type=ctx expected=map_ptr"))
    assert not known(refused("unknown func bpf_loop#181"))
    assert not known(refused("program of this type cannot use helper bpf_loop#181"))
    assert not known(refused(""))
    with pytest.raises(RuntimeError):
        known(Answer(Outcome.UNASKED, 0, "died"))
    assert loadable(refused("At program exit the register R0 has value 0 should have been in [1, 1]"))
    assert loadable(refused("Only fentry programs can be sleepable")) is False
    assert loadable(refused("f is not sleepable")) is None


@dataclass
class Pretended:
    """Knows helpers 1 to 3 in XDP, 3 for GPL programs only, and no program of any other type."""

    name: str = "6.1"
    release: str = "6.1.192"

    def verdicts(self, questions: Sequence[RawProgram | ObjectProgram], detail: bool = False) -> list[Answer]:
        return [self._verdict(question) for question in questions]

    def _verdict(self, question: RawProgram | ObjectProgram) -> Answer:
        if isinstance(question, ObjectProgram):
            return ACCEPTED if question.program == "good" else refused("R2 !read_ok")
        if question.program_type != call(PLACE["xdp"], None).program_type:
            return refused("")
        if question.insns[0] != 0x85:
            return ACCEPTED
        helper = question.insns[4]
        if helper > 3:
            return refused(f"unknown func unknown#{helper}")
        if helper == 3 and question.license != "GPL":
            return refused("cannot call GPL-restricted function from non-GPL compatible program")
        return refused("R1 !read_ok")


def test_rows_of_a_kernel() -> None:
    found = rows(Pretended(), (PLACE["xdp"], PLACE["kprobe"]))
    assert found == [
        Row("6.1", "6.1.192", "xdp", True, frozenset({1, 2, 3})),
        Row("6.1", "6.1.192", "kprobe", False, frozenset()),
        Row("6.1", "6.1.192", GPL_ONLY, True, frozenset({3})),
    ]
    assert [len(row.words()) for row in found] == [len(COLUMNS)] * 3
    assert found[0].words()[-1] == "1-3"


@pytest.mark.needs("clang-19", "libbpf-dev")
def test_the_models_word_stands_beside_the_kernels() -> None:
    text = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    SEC("xdp") int good(struct xdp_md *context) { return 2; }
    SEC("xdp") int bad(struct xdp_md *context) { return 1; }
    SEC("xdp") int worse(struct xdp_md *context) { return *(int *)(long)context->data; }
    """
    from llvm_bridge.object import Object
    from llvm_bridge.reader import read_object

    data = compile_text(text)
    source = read_object(data)
    assert isinstance(source, Object)
    drawn = [Drawn("x", data, source.unit, ("good", "bad", "worse"))]
    good, bad, worse = compare(Pretended(), drawn, None)
    assert (good.kernel, good.model) == ("accepted", True)
    assert bad.is_false_accept, "the kernel refuses what the model accepts"
    assert not worse.model
    assert not worse.is_false_accept


def test_programs_keep_their_maps_on_the_way_to_the_oracle() -> None:
    load_map = bytes.fromhex("18110000000000000000000000000000")
    exit_ = bytes.fromhex("b7000000000000009500000000000000")
    maps = {0: MAPS["map_in_map"], 2: MAPS["map_spin_lock"], 4: MAPS["map_in_map"], 6: MAPS["map_array_48b"]}
    raw = raw_of(SlotProgram("x", load_map * 3 + exit_, 6, maps=maps))
    assert raw.relocations == ((0, 1), (2, 2), (4, 1)), "slot 6 loads no map"
    assert [spec.inner for spec in raw.maps] == [None, 0, None]
    assert raw.maps[2].btf_value
    assert raw.btf
    assert not raw_of(SlotProgram("x", exit_, 6)).btf


def test_figures_count_what_was_asked() -> None:
    def asked(is_case: bool, model: str, kernel: bool | None) -> Asked:
        return Asked("x", is_case, model, model, kernel, "", "", 6)

    found = [asked(True, "", True), asked(True, "no", True), asked(True, "", None)]
    found += [asked(False, "", True)] * 4 + [asked(False, "no", True), asked(False, "", False)]
    row, wrong = figures(Pretended(), found, 100)
    assert row == "| Linux 6.1.192 | 2 | 50.0 % | 0 | 100 | 44.4 % | 1 |", "a refused mutant stands for five"
    assert len(wrong) == 1
