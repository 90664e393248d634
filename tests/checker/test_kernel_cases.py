"""The kernel's own verifier cases of linux 6.1: nothing that its files say is refused is taken, and every case that the
model refuses although the kernel takes it stands in benchmarks/model/disagreements.csv."""

from __future__ import annotations

from functools import cache

import pytest

from benchmarks.model.cases import DISAGREEMENTS, Answer, differences, file_answers, known_disagreements

pytestmark = [pytest.mark.needs("linux-source-6.1", "clang-19"), pytest.mark.xdist_group("kernel-cases")]


@cache
def answers() -> tuple[Answer, ...]:
    return tuple(file_answers())


def test_there_are_cases_of_both_kinds() -> None:
    taken = sum(one.kernel for one in answers())
    assert taken > 600 and len(answers()) - taken > 500


def test_nothing_that_the_kernel_refuses_is_taken() -> None:
    assert [one.name for one in answers() if one.is_false_accept] == []


def test_every_disagreement_has_an_entry_and_every_entry_disagrees() -> None:
    assert differences(answers(), known_disagreements()) == []


def test_an_entry_that_agrees_fails() -> None:
    known = known_disagreements()
    agreeing = next(one for one in answers() if one.kernel and one.model)
    assert differences(answers(), {**known, (agreeing.set, agreeing.name): "is refused"}) == [
        f"{agreeing.set} {agreeing.name}: agrees now: remove its entry"
    ]


def test_a_disagreement_without_entry_fails() -> None:
    known = known_disagreements()
    gone = next(key for key in known if key[0] == "6.1")
    assert len(differences(answers(), {key: word for key, word in known.items() if key != gone})) == 1


def test_an_accepted_case_that_the_kernel_refuses_is_a_false_accept() -> None:
    assert Answer("6.1", "x", kernel=False, model=True, reason="").is_false_accept
    assert not Answer("6.1", "x", kernel=False, model=False, reason="no").is_false_accept
    assert DISAGREEMENTS.exists()
