"""What an obligation is made of as JSON values, both ways: instructions, entry facts and demand.

The values are complete (reading back what was written gives the same question) and canonical (equal questions give
equal values).  Whoever reads a value from a file gets a ValueError for anything that no writer here would write.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

from verifier_model.bpf.asm import parse_insns, print_insn
from verifier_model.bpf.demand import ALL_BITS, STACK_LIMIT, Demand
from verifier_model.bpf.insn import NO_ORIGIN, REGISTER_COUNT, ByteOrder, Insn, Ref, RefKind, SlotOffset, encode
from verifier_model.domains.registers import ObjectType, Region, Register, Trust
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import SLOT_SIZE, StackSlot, State
from verifier_model.verdict import CutPoint, Equality, InRegister, OnStack

Value = dict[str, Any]

# ---- instructions ----


def insn_bytes(insn: Insn, order: ByteOrder) -> bytes:
    """The encoding with every distance and relocated field zero: those are the layout's and the loader's."""
    return encode(insn, order, SlotOffset(0) if "target" in insn.row.uses or insn.row.name == "call_local" else None)


def insn_value(insn: Insn, order: ByteOrder) -> Value:
    """Text and bytes of an instruction, and what the object's tables add to it; line records are left out."""
    value: Value = {"text": print_insn(insn), "bytes": insn_bytes(insn, order).hex()}
    if insn.ref is not None and (insn.ref.symbol, insn.ref.relocation) != (-1, -1):
        value["relocation"] = [insn.ref.symbol, insn.ref.relocation]
    if insn.origin.core:
        value["core"] = [list(record) for record in insn.origin.core]
    return value


def insn_of(value: Value, order: ByteOrder) -> Insn:
    """The instruction of `insn_value`; raises ValueError when text and bytes are not those of one instruction."""
    (insn,) = parse_insns(value["text"])
    if insn.ref is not None and "relocation" in value:
        symbol, relocation = value["relocation"]
        insn = replace(insn, ref=replace(insn.ref, symbol=symbol, relocation=relocation))
    if "core" in value:
        core = tuple((int(a), int(b), int(c)) for a, b, c in value["core"])
        insn = replace(insn, origin=replace(NO_ORIGIN, core=core))
    if insn_value(insn, order) != value:
        raise ValueError(f"{value['text']!r} is not what its bytes or its relocation say")
    return insn


# ---- facts ----

_SCALAR_FIELDS: Final = tuple(field.name for field in fields(Scalar))
_STRUCTURED: Final = frozenset({"region", "value", "exact", "object"})
_PLAIN_FIELDS: Final = tuple(field.name for field in fields(Register) if field.name not in _STRUCTURED)


def register_value(register: Register) -> Value:
    """The region and every field that is not its default."""
    blank = Register(register.region)
    value: Value = {"region": register.region.value}
    if register.value != Scalar.top():
        value["value"] = [getattr(register.value, name) for name in _SCALAR_FIELDS]
    for name in _PLAIN_FIELDS:
        if getattr(register, name) != getattr(blank, name):
            value[name] = getattr(register, name)
    if register.exact is not None:
        value["exact"] = _ref_value(register.exact)
    if register.object is not None:
        value["object"] = [register.object.name, register.object.type_id, register.object.trust.value]
    return value


def register_of(value: Value) -> Register:
    """The register of `register_value`; raises ValueError."""
    given = dict(value)
    try:
        region = Region(given.pop("region"))
        scalar = Scalar(*(_number(part) for part in given.pop("value"))) if "value" in given else Scalar.top()
        exact = _ref_of(given.pop("exact")) if "exact" in given else None
        kind = None
        if "object" in given:
            name, type_id, trust = given.pop("object")
            kind = ObjectType(name, _number(type_id), Trust(trust))
        return Register(region, scalar, exact=exact, object=kind, **given)
    except TypeError as error:
        raise ValueError(f"no register fact: {error}") from None


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no number")
    return value


def facts_value(state: State) -> dict[str, Value]:
    """Each fact by its place: "r3", or "r10-16" for a stack slot.  What is unknown is left out."""
    facts: dict[str, Value] = {}
    for number, register in enumerate(state.regs):
        if register != Register.unknown():
            facts[f"r{number}"] = register_value(register)
    for off in sorted(state.stack, reverse=True):
        slot = state.stack[off]
        if slot != StackSlot():
            facts[f"r10{off}"] = {"marks": slot.marks}
            if slot.spill is not None:
                facts[f"r10{off}"]["spill"] = register_value(slot.spill)
    return facts


def state_of(facts: dict[str, Value]) -> State:
    """The state of `facts_value`; raises ValueError."""
    regs = [Register.unknown()] * REGISTER_COUNT
    stack: dict[int, StackSlot] = {}
    for place, value in facts.items():
        number = place.removeprefix("r10") if place.startswith("r10-") else ""
        if number:
            off = int(number)
            if not -STACK_LIMIT <= off < 0 or off % SLOT_SIZE:
                raise ValueError(f"{place} is no stack slot")
            spill = register_of(value["spill"]) if "spill" in value else None
            stack[off] = StackSlot(value["marks"], spill)
        elif place.removeprefix("r").isdigit() and int(place[1:]) < REGISTER_COUNT:
            regs[int(place[1:])] = register_of(value)
        else:
            raise ValueError(f"{place} is no place of a fact")
    state = State(tuple(regs), {off: stack[off] for off in sorted(stack)})
    if facts_value(state) != facts:
        raise ValueError("facts are not in the form in which they are written")
    return state


def fact_text(value: Value) -> str:
    """One readable line: the region, then what else is known; a number that is known is said alone."""
    if "marks" in value:
        return f"bytes {value['marks']}" + (f", a copy of: {fact_text(value['spill'])}" if "spill" in value else "")
    words = [value["region"]]
    for name, known in value.items():
        if name == "value":
            words.append(_scalar_text(Scalar(*known)))
        elif name == "object":
            words.append(f"to {known[0] or 'something'}")
        elif name == "exact":
            words.append(f"exactly {known[0]}[{known[1]}{known[2]:+d}]")
        elif name != "region":
            words.append(name if known is True else f"{name}={known}")
    return " ".join(words)


def _scalar_text(scalar: Scalar) -> str:
    if scalar.constant is not None:
        return f"= {scalar.constant:#x}"
    top = Scalar.top()
    ranges = [
        (f"u64 {scalar.umin}..{scalar.umax}", scalar.umin == top.umin and scalar.umax == top.umax),
        (f"s64 {scalar.smin}..{scalar.smax}", scalar.smin == top.smin and scalar.smax == top.smax),
        (f"u32 {scalar.u32min}..{scalar.u32max}", scalar.u32min == top.u32min and scalar.u32max == top.u32max),
        (f"s32 {scalar.s32min}..{scalar.s32max}", scalar.s32min == top.s32min and scalar.s32max == top.s32max),
        (f"bits {scalar.bits_value:#x}/{scalar.bits_mask:#x}", scalar.bits_mask == ALL_BITS),
    ]
    return ", ".join(text for text, is_top in ranges if not is_top)


# ---- demand ----


def demand_value(demand: Demand) -> Value:
    """The demanded bits of each live register as a mask, and inclusive ranges of demanded stack bytes."""
    ranges: list[list[int]] = []
    for off in sorted(demand.stack):
        if ranges and ranges[-1][1] == off - 1:
            ranges[-1][1] = off
        else:
            ranges.append([off, off])
    return {"regs": {f"r{n}": f"{bits:#x}" for n, bits in enumerate(demand.regs) if bits}, "stack": ranges}


def demand_of(value: Value) -> Demand:
    """The demand of `demand_value`; raises ValueError."""
    regs = [int(value["regs"].get(f"r{number}", "0"), 16) for number in range(REGISTER_COUNT)]
    stack = frozenset(off for low, high in value["stack"] for off in range(max(low, -STACK_LIMIT), min(high, -1) + 1))
    demand = Demand(tuple(regs), stack)
    if demand_value(demand) != value:
        raise ValueError("the demand is not in the form in which it is written")
    return demand


# ---- cut points ----


def cut_value(cut: CutPoint) -> Value:
    """A pair of points with what is believed there; as `Equality` has it, `after` first."""
    return {
        "before": cut.before,
        "after": cut.after,
        "equalities": [[_place_value(equal.after), _place_value(equal.before)] for equal in cut.equalities],
        "unlike": sorted(cut.unlike),
    }


def cut_of(value: Value) -> CutPoint:
    """The cut point of `cut_value`; raises ValueError."""
    equalities = []
    for after, before in value["equalities"]:
        place = _place_of(after)
        if not isinstance(place, InRegister | OnStack):
            raise ValueError(f"{after} is no place")
        equalities.append(Equality(place, _place_of(before)))
    cut = CutPoint(value["before"], value["after"], tuple(equalities), frozenset(value["unlike"]))
    if cut_value(cut) != value:
        raise ValueError("a cut point is not in the form in which it is written")
    return cut


def _place_value(place: InRegister | OnStack | int | Ref) -> Value:
    if isinstance(place, InRegister):
        return {"register": place.number, "bits": f"{place.bits:#x}"}
    if isinstance(place, OnStack):
        return {"stack": place.off}
    return {"number": place} if isinstance(place, int) else {"symbol": _ref_value(place)}


def _place_of(value: Value) -> InRegister | OnStack | int | Ref:
    if "register" in value:
        return InRegister(_number(value["register"]), int(value["bits"], 16))
    if "stack" in value:
        return OnStack(_number(value["stack"]))
    return _number(value["number"]) if "number" in value else _ref_of(value["symbol"])


def _ref_value(ref: Ref) -> list[Any]:
    return [ref.kind.value, ref.name, ref.addend, ref.symbol, ref.relocation]


def _ref_of(value: list[Any]) -> Ref:
    kind, name, *numbers = value
    addend, symbol, relocation = map(_number, numbers)
    return Ref(RefKind(kind), name, addend, symbol, relocation)
