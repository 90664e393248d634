"""One certificate checked again: facts, composition, the questions' text, and another solver's answers.

Nothing that the certificate says is used before it has been derived anew from the input object's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from k2_tools.blockwise import agrees
from k2_tools.certificate_folder import CertificateFolder
from k2_tools.validation import differences, has_same_types, misfits, spelled
from llvm_bridge.object import Object, Untouched
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object
from synth.certificate import COMPARED, INPUT, MADE_HERE, OUTPUT, derivations, digest, question
from synth.claim import Claim, claim_of
from synth.composition import reads_no_more
from synth.reshape import Reshape, plain_blocks, reshape
from synth.rewrite import apply
from synth.whole import Whole, context_of, whole_of
from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.bpf.unit import AccessFacts, Function, Unit
from verifier_model.domains.lattice import includes
from verifier_model.facts import Facts, analyse
from verifier_model.prover.second_solver import Bounds, Reply, ask

Word = Literal["confirmed", "contradicted", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one rewrite, or with `number` 0 of the certificate as a whole."""

    number: int
    where: str
    word: Word
    reason: str


class ContradictionError(Exception):
    """The certificate says something that is not so."""


def recheck(folder: CertificateFolder, solver: str, bounds: Bounds) -> Iterator[Finding]:
    """A finding for each rewrite in order, then one for the whole; raises SolverMissingError and KeyError (solver)."""
    for fault in folder.faults:
        yield Finding(0, "files", "contradicted", fault)
    manifest = folder.manifest
    try:
        source = _read(folder, INPUT, manifest)
        claims = [_claim(entry, source.unit) for entry in manifest["rewrites"]]
        if [claim.number for claim in claims] != list(range(1, len(claims) + 1)):
            raise ContradictionError("the rewrites are not numbered in the order of application")
        wholes = [_whole(entry, source.unit) for entry in manifest["wholes"]]
        places = {(whole.name, whole.applied) for whole in wholes}
        if len(places) != len(wholes) or not {name for name, _ in places} <= {f.name for f in source.unit.functions}:
            raise ContradictionError("a whole function is claimed twice, or of a function that is not there")
        order = [claim.function for claim in claims]
        names = [function.name for function in source.unit.functions]
        if order != sorted(order, key=names.index):
            raise ContradictionError("the rewrites are not in the order of the input's functions")
    except (ContradictionError, KeyError, TypeError, ValueError, AttributeError) as error:
        yield Finding(0, "manifest", "contradicted", f"{error}")
        return
    unit = source.unit
    for function in source.unit.functions:
        own = [claim for claim in claims if claim.function == function.name]
        replay = _Replay(unit, function, own, [whole for whole in wholes if whole.name == function.name])
        for at in range(len(replay.changes)):
            yield replay.finding(at, folder, solver, bounds)
        unit = unit.with_function(replay.stages[-1])
    for fault in _composition(source, unit, wholes, folder):
        yield Finding(0, "composition", "contradicted", fault)


def _read(folder: CertificateFolder, name: str, manifest: Mapping[str, Any]) -> Object:
    accesses = {function: AccessFacts(**known) for function, known in manifest["assumed"].items()}
    source = read_object(folder.files.get(name, b""), manifest["cpu_level"], accesses)
    if isinstance(source, Untouched):
        raise ContradictionError(f"{name} cannot be read: {source.reason}")
    return source


def _claim(entry: Mapping[str, Any], unit: Unit) -> Claim:
    claim = claim_of({name: part for name, part in entry.items() if name != "files"}, unit.byte_order)
    if sorted(entry["files"]) != sorted((claim.file, claim.companion)):
        raise ContradictionError(f"rewrite {claim.number} lists other files than its own")
    return claim


def _whole(entry: Mapping[str, Any], unit: Unit) -> Whole:
    return whole_of({name: part for name, part in entry.items() if name != "files"}, unit.byte_order)


def _whole_finding(whole: Whole, unit: Unit, folder: CertificateFolder, solver: str, bounds: Bounds) -> Finding:
    """Every question of a whole function, asked again."""
    where = f"{whole.name} as a whole, {len(whole.cuts)} cut points"
    try:
        texts = whole.texts(unit, unit.function(whole.name))
        place = (whole.name, whole.applied)
        (entry,) = (e for e in folder.manifest["wholes"] if (e["function"], e["applied"]) == place)
        if sorted(entry["files"]) != sorted(texts):
            raise ContradictionError("these are not the questions about this function")
        for name, (_, text) in texts.items():
            if folder.files.get(name) != text.encode("ascii"):
                raise ContradictionError(f"{name} does not ask its question")
        if whole.context != context_of(unit, unit.function(whole.name)):
            raise ContradictionError("it is not called from programs of that type")
    except (ContradictionError, ValueError) as error:
        return Finding(0, where, "contradicted", str(error))
    replies = [(expected, ask(solver, text, bounds)) for expected, text in texts.values()]
    wrong = [reply.answer for expected, reply in replies if reply.answer not in (expected, "unknown")]
    if wrong:
        return Finding(0, where, "contradicted", f"the solver says {wrong[0]}")
    unknown = [reply.reason for _, reply in replies if reply.answer == "unknown"]
    if unknown:
        return Finding(0, where, "unknown", unknown[0])
    return Finding(0, where, "confirmed", f"{len(replies)} questions answered as expected")


class _Replay:
    """The changes of one function, applied one after the other to what the input holds."""

    def __init__(self, unit: Unit, function: Function, claims: list[Claim], wholes: list[Whole]) -> None:
        self.unit = unit
        self.changes: list[Claim | Whole] = list(claims)
        for whole in sorted(wholes, key=lambda whole: whole.applied):
            self.changes.insert(whole.applied, whole)
        self.stages = [function]
        self.misfits: dict[int, str] = {}
        self._facts: tuple[int, Facts] | None = None
        for at, change in enumerate(self.changes):
            try:
                self.stages.append(_changed(self.stages[-1], change))
            except (ValueError, KeyError) as error:
                self.misfits[at] = f"it does not fit the program: {error}"
                self.stages.append(self.stages[-1])

    def facts(self, stage: int) -> Facts:
        if self._facts is None or self._facts[0] != stage:
            program = self.stages[stage]
            self._facts = (stage, analyse(self.unit.with_function(program), program))
        return self._facts[1]

    def finding(self, at: int, folder: CertificateFolder, solver: str, bounds: Bounds) -> Finding:
        claim = self.changes[at]
        if isinstance(claim, Whole):
            if claim.applied != at:
                where = f"{claim.name} as a whole"
                return Finding(0, where, "contradicted", f"it says that {claim.applied} changes came before it")
            unit = self.unit.with_function(self.stages[at])
            return _whole_finding(claim, unit, folder, solver, bounds)
        window = claim.rewrite.window
        where = f"{claim.function} {window.label}:{window.start} {claim.rewrite.proposer}"
        try:
            if at in self.misfits:
                raise ContradictionError(self.misfits[at])
            self._check_basis(at, claim)
            self._check_facts(claim)
            word, reason = self._check_texts(claim, folder, solver, bounds)
        except ContradictionError as error:
            word, reason = "contradicted", str(error)
        return Finding(claim.number, where, word, reason)

    def _check_basis(self, at: int, claim: Claim) -> None:
        """The facts are those of the program it is applied to, or of the one that its whole batch was proved on."""
        if claim.applied != at:
            raise ContradictionError(f"it says that {claim.applied} rewrites came before it; {at} did")
        if claim.basis == at:
            return
        batch = [other for other in self.changes[max(claim.basis, 0) : at + 1] if isinstance(other, Claim)]
        if len(batch) != at + 1 - claim.basis or any(other.basis != claim.basis for other in batch):
            raise ContradictionError("its facts are of a program that it cannot be applied to")
        facts = self.facts(claim.basis)
        for other in batch:
            if not reads_no_more(other.rewrite, facts):
                raise ContradictionError("it cannot be applied together with the rewrites before it")

    def _check_facts(self, claim: Claim) -> None:
        facts = self.facts(claim.basis)
        derived = question(facts, claim.rewrite)
        if claim.entry != derived.entry and not includes(claim.entry, derived.entry):
            raise ContradictionError("a listed fact does not follow at its point")
        masks = zip(claim.demand.regs, derived.demand.regs, strict=True)
        if any(needed & ~listed for listed, needed in masks) or not derived.demand.stack <= claim.demand.stack:
            raise ContradictionError("more is demanded behind it than is listed")
        listed = replace(derived, entry=claim.entry)
        if derivations(facts, claim.rewrite, listed) != claim.derived:
            raise ContradictionError("its facts come from elsewhere than it says")

    def _check_texts(self, claim: Claim, folder: CertificateFolder, solver: str, bounds: Bounds) -> tuple[Word, str]:
        program = self.stages[claim.basis]
        texts = claim.texts(self.unit.with_function(program), program)
        for name, text in zip((claim.file, claim.companion), texts, strict=True):
            if folder.files.get(name) != text.encode("ascii"):
                raise ContradictionError(f"{name} does not ask the question of this rewrite")
        if "(check-sat)" not in texts[0]:
            return "unknown", "there is no query for it"
        query, companion = (ask(solver, text, bounds) for text in texts)
        return _judged(query, companion)


def _changed(function: Function, change: Claim | Whole) -> Function:
    if isinstance(change, Whole):
        return reshape(function, Reshape(plain_blocks(function.blocks), change.after, "", ""))
    _check_window(function, change)
    return apply(function, change.rewrite)


def _check_window(function: Function, claim: Claim) -> None:
    """Raises ValueError unless the window is some instructions of a block, KeyError for a block that is not there."""
    window = claim.rewrite.window
    if not 0 <= window.start < window.stop <= len(function.block(window.label).insns):
        raise ValueError(f"the window {window} is outside of its block")


def _judged(query: Reply, companion: Reply) -> tuple[Word, str]:
    if query.answer == "sat":
        return "contradicted", "the solver finds a state that tells the two programs apart"
    if companion.answer == "unsat":
        return "contradicted", "no state satisfies the facts, so nothing is proved"
    for reply in (query, companion):
        if reply.answer == "unknown":
            return "unknown", reply.reason
    return "confirmed", "unsat, and not for want of states"


# ---- the whole ----


def _composition(source: Object, unit: Unit, wholes: list[Whole], folder: CertificateFolder) -> Iterator[str]:
    """What is wrong with input and output as the manifest describes them, and with the way from one to the other."""
    before, after = folder.files.get(INPUT, b""), folder.files.get(OUTPUT, b"")
    for name, data in (("input", before), ("output", after)):
        if folder.manifest[name] != {"file": f"{name}.o", "sha256": digest(data), "bytes": len(data)}:
            yield f"the manifest describes another {name}"
    written = read_object(after, source.unit.cpu_level)
    if isinstance(written, Untouched):
        yield f"{OUTPUT} cannot be read: {written.reason}"
        return
    expected = [_described(source, written, function) for function in source.unit.functions]
    if folder.manifest["functions"] != expected:
        yield "the manifest describes other functions"
    if folder.manifest["kind"] == COMPARED:
        yield from _comparison(source, written, unit, wholes)
        return
    made = write_object(source, unit)
    if folder.manifest["kind"] != MADE_HERE:
        yield "the rewrites make the output, or it is compared"
    elif isinstance(made, Untouched):
        yield f"the rewrites cannot be written: {made.reason}"
    elif made != after:
        yield f"the rewrites give another object: {_first_difference(made, written)}"
    else:
        yield from other_symbols(unit, written)


def other_symbols(unit: Unit, written: Object) -> Iterator[str]:
    """Functions in which the output's relocations lead elsewhere than the proved instructions say, by name."""
    for function in unit.functions:
        found = written.unit.function(function.name)
        if _unlabelled(function) != _unlabelled(found):
            yield f"{function.name}: a relocation of the output leads elsewhere than the rewrite says"


def _unlabelled(function: Function) -> list[Insn]:
    """The instructions in layout order; where branches lead, equal bytes have settled."""
    insns = [insn for block in spelled(function) for insn in block]
    return [insn if not _is_branch(insn) else replace(insn, ref=None) for insn in insns]


def _is_branch(insn: Insn) -> bool:
    return insn.ref is not None and insn.ref.kind is RefKind.LABEL


def _comparison(source: Object, written: Object, unit: Unit, wholes: list[Whole]) -> Iterator[str]:
    """Why the output is not what the claims say: function by function, and all that is no function."""
    yield from differences(source, written)
    names = [function.name for function in source.unit.functions]
    if sorted(names) != sorted(function.name for function in written.unit.functions):
        yield "the objects have different functions"
        return
    same_types = has_same_types(source, written)
    last = {whole.name: whole for whole in wholes}
    for before, current in zip(source.unit.functions, unit.functions, strict=True):
        after = written.unit.function(before.name)
        misfit = misfits(before, after, same_types)
        if misfit is not None:
            yield f"{before.name}: {misfit}"
        elif before.name in last:
            if spelled(replace(current, blocks=last[before.name].after)) != spelled(after):
                yield f"{before.name}: the output holds another function"
        elif spelled(current) != spelled(after) and not agrees(before, current, after):
            yield f"{before.name}: the rewrites give another function"


def _described(source: Object, written: Object, function: Function) -> dict[str, Any]:
    value: dict[str, Any] = {"name": function.name, "section": function.section}
    for side, image in (("before", source), ("after", written)):
        data = image.code_bytes().get(function.name, b"")
        value[side] = {"sha256": digest(data), "bytes": len(data)}
    return value


def _first_difference(made: bytes, written: Object) -> str:
    again = read_object(made, written.unit.cpu_level)
    if isinstance(again, Untouched):
        return "one that cannot be read"
    old, new = again.code_bytes(), written.code_bytes()
    return next((f"{name} differs" for name in old if old[name] != new.get(name)), "tables differ, not code")
