"""`make model-cases`: the model on the kernel's own verifier cases, and every disagreement that remains.

    python -m benchmarks.model.cases [--set 6.1] [--set 6.12] [--write] [--date D]

The cases of linux 6.1 are raw programs whose files say what that kernel answers; the model is asked as the profile of
6.1 and, where the running kernel can be asked, as its profile, too.  Those of linux 6.12 are `progs/verifier_*.c`,
compiled by clang 19 for v4: every program in them is a case, the running kernel's word decides.

A case that a kernel of the profile refuses and the model accepts is a false accept (exit status 1).  The other
direction is an entry of `disagreements.csv`: a case that disagrees without an entry, or an entry that has come to
agree, is exit status 1, too; `--write` writes the file and the figures of docs/model.md anew.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.corpus.jobs import objects_folder
from benchmarks.kernel_word import ROOT
from benchmarks.model.corpus import compare, reason_class
from benchmarks.model.kernel_cases import KernelCase, kernel_cases
from benchmarks.model.raw_kernel import NoMapError, RawKernel
from benchmarks.model.slots import MAIN, unit_of
from benchmarks.model.verdicts import KernelVerdicts, running_knowledge
from benchmarks.provenance import provenance, replace_section
from verifier_model.checker import check
from verifier_model.checker.knowledge import Knowledge, knowledge
from verifier_model.kernel.syscall import is_permitted

DISAGREEMENTS: Final = Path(__file__).with_name("disagreements.csv")
DOCUMENT: Final = ROOT / "docs" / "model.md"
SETS: Final = ("6.1", "6.12")
FILES_SAY: Final = (6, 1, 192)  # the release whose answers stand in the files of 6.1
_OBJECTS: Final = "6.12/selftests/clang-19/v4/verifier_"
_STEPS: Final = 20_000
_STRICT: Final = 1  # BPF_F_STRICT_ALIGNMENT


@dataclass(frozen=True, slots=True)
class Answer:
    """One case: what the kernel says, and the model as the profile of that kernel (`reason`: why it refuses)."""

    set: str
    name: str
    kernel: bool
    model: bool
    reason: str

    @property
    def is_false_accept(self) -> bool:
        return self.model and not self.kernel

    @property
    def is_false_reject(self) -> bool:
        return self.kernel and not self.model


def answer_of(case: KernelCase, knows: Knowledge, accepted: bool) -> Answer:
    """The model's word on a raw case."""
    unit = unit_of(case.program)
    report = check(unit, unit.function(MAIN), knows, _STEPS)
    return Answer("6.1", case.name, accepted, report.accepted, _reason(report.rejection))


def _reason(rejection: object) -> str:
    return "" if rejection is None else str(getattr(rejection, "reason", rejection))


def asked_cases() -> list[KernelCase]:
    """The cases of 6.1 that the model answers.

    Not those that ask for strict alignment, a profile that the model does not have, nor those that live by what only
    their loader knows: numbers of kernel functions, function records, attach points.
    """
    return [case for case in kernel_cases() if not case.needs and not case.program.flags & _STRICT]


def file_answers() -> list[Answer]:
    """The cases of 6.1 by the word of their files."""
    knows = knowledge(FILES_SAY)
    return [answer_of(case, knows, case.accepted) for case in asked_cases()]


def running_answers() -> list[Answer]:
    """The same cases by the running kernel's word; a kernel that lacks a map of the case is not asked."""
    knows, found = running_knowledge(), []
    with RawKernel() as kernel:
        for case in asked_cases():
            try:
                accepted = kernel.ask(case.program).accepted
            except NoMapError:
                continue
            found.append(answer_of(case, knows, accepted))
    return found


def object_answers() -> list[Answer]:
    """The programs of 6.12's verifier_*.c by the running kernel's word; what libbpf does not load is not asked."""
    verdicts, found = KernelVerdicts(), []
    for path in sorted((objects_folder() / _OBJECTS).parent.glob("verifier_*.o")):
        key = str(path.relative_to(objects_folder()))[: -len(".o")]
        for one in compare(key, verdicts, _STEPS):
            if one.kernel != "not asked":
                name = f"{path.stem.removeprefix('verifier_')} {one.program}"
                found.append(Answer("6.12", name, one.kernel == "accepted", one.model, one.model_reason))
    return found


def known_disagreements(path: Path = DISAGREEMENTS) -> dict[tuple[str, str], str]:
    """(set, case) -> reason."""
    with path.open(newline="") as file:
        return {(row["set"], row["case"]): row["reason"] for row in csv.DictReader(file)}


def differences(answers: Iterable[Answer], known: Mapping[tuple[str, str], str]) -> list[str]:
    """What the file does not say, or says no longer rightly, of the sets that were asked."""
    by_case = {(one.set, one.name): one for one in answers}
    sets = {one.set for one in by_case.values()}
    lines = []
    for key, one in by_case.items():
        if one.is_false_reject and key not in known:
            lines.append(f"{key[0]} {key[1]}: refused, and no entry says so: {one.reason}")
    stale = (key for key in known if key[0] in sets and (key not in by_case or not by_case[key].is_false_reject))
    return [*lines, *(f"{key[0]} {key[1]}: agrees now: remove its entry" for key in stale)]


def write_disagreements(answers: Sequence[Answer], path: Path = DISAGREEMENTS) -> None:
    """The entries of the sets that were asked anew, the others as they are."""
    sets = {one.set for one in answers}
    old = known_disagreements(path) if path.exists() else {}
    rows = {key: reason for key, reason in old.items() if key[0] not in sets}
    rows |= {(one.set, one.name): reason_class(one.reason) for one in answers if one.is_false_reject}
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("set", "case", "reason"))
        writer.writerows((*key, rows[key]) for key in sorted(rows))


def summary(title: str, answers: Sequence[Answer]) -> str:
    loaded = [one for one in answers if one.kernel]
    agreed = sum(one.model for one in loaded)
    wrong = sum(one.is_false_accept for one in answers)
    share = 100 * agreed / max(len(loaded), 1)
    return f"| {title} | {len(answers)} | {len(loaded)} | {agreed} ({share:.1f} %) | {wrong} |"


def markdown(rows: Sequence[str], answers: Iterable[Answer], source: Mapping[str, object]) -> str:
    reasons = Counter(reason_class(one.reason) for one in answers if one.is_false_reject)
    lines = [
        f"On {source['date']}, running kernel {source['kernel']}, commit {source['commit']}.",
        "",
        "| cases | asked | the kernel accepts | of these the model | false accepts |",
        "|---|--:|--:|--:|--:|",
        *rows,
        "",
        "Why the model refuses cases that the kernel accepts (`benchmarks/model/disagreements.csv` names each):",
        "",
        "| cases | reason |",
        "|--:|---|",
        *(f"| {count} | {reason.replace('|', '/')} |" for reason, count in reasons.most_common()),
    ]
    return "\n".join(lines)


@click.command()
@click.option("--set", "sets", multiple=True, type=click.Choice(SETS), help="which cases (default: all)")
@click.option("--write", is_flag=True, help="write disagreements.csv and docs/model.md")
@click.option("--date", default="", help="the day, recorded beside the figures")
def main(sets: tuple[str, ...], write: bool, date: str) -> None:
    """Ask, print, compare with the entries; exit 1 when something is wrong."""
    sets, rows, inventory, everything = sets or SETS, list[str](), list[Answer](), list[Answer]()

    def take(title: str, answers: list[Answer], is_inventory: bool) -> None:
        rows.append(summary(title, answers))
        everything.extend(answers)
        if is_inventory:
            inventory.extend(answers)

    if "6.1" in sets:
        take("verifier/*.c of 6.1, as 6.1 by the files' word", file_answers(), True)
        if is_permitted():
            take("verifier/*.c of 6.1, as the running kernel", running_answers(), False)
    if "6.12" in sets:
        take("verifier_*.c of 6.12, as the running kernel", object_answers(), True)
    print("\n".join(rows))
    wrong = [one for one in everything if one.is_false_accept]
    for one in wrong:
        print(f"false accept: {one.set} {one.name}")
    if write:
        write_disagreements(inventory)
        if set(sets) == set(SETS):
            replace_section(DOCUMENT, "cases", markdown(rows, inventory, provenance(date, ())))
    lines = differences(inventory, known_disagreements())
    print("\n".join(lines))
    sys.exit(1 if wrong or lines else 0)


if __name__ == "__main__":
    main()
