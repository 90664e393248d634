"""Random functions, right and wrong transformations of them, and what the concrete machine shows of a run.

Functions are structured (branches, joins, bounded loops), touch the context, the packet, the frame and a map's value,
and call two helpers.  r6 to r9 and the slots -8 to -32 hold numbers, r1 to r5 are scratch, r10 - 40 keeps the context,
r10 - 48 the loops' counters.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.prover.functions import function
from verifier_model.bpf.concrete import Machine, Stop, map_frame, run_function
from verifier_model.bpf.flow import falls_through, successors
from verifier_model.bpf.insn import Insn, Ref, label, make
from verifier_model.bpf.isa import BY_NAME, ROWS, Kind
from verifier_model.bpf.unit import Block, Function

CTX, PACKET, VALUE, TOP, MAP = 0x10000, 0x20000, 0x30000, 0x50000, 0x60000
PACKET_BYTES = 64
NUMBERS = (6, 7, 8, 9)
SLOTS = (-8, -16, -24, -32)
_OPERATIONS = ("+=", "-=", "*=", "&=", "|=", "^=", "=")
_COMPARISONS = ("==", "!=", ">", "<", ">=", "<=", "s>", "s<")


@dataclass
class _Writer:
    rng: random.Random
    lines: list[str] = field(default_factory=list)
    labels: int = 0
    in_loop: bool = False

    def add(self, *lines: str) -> None:
        self.lines += lines

    def label(self) -> str:
        self.labels += 1
        return f"L{self.labels}"

    def statements(self, count: int, depth: int) -> None:
        for _ in range(count):
            kinds = [self.compute, self.compute, self.compute, self.slot, self.packet, self.clock]
            kinds += [self.count_up] if depth else []
            kinds += [self.branch] * 3 if depth else []
            kinds += [self.loop] if depth and not self.in_loop else []
            kind = self.rng.choice(kinds)
            kind(depth) if kind in (self.branch, self.loop) else kind(0)

    def number(self) -> str:
        return f"r{self.rng.choice(NUMBERS)}"

    def operand(self) -> str:
        return self.number() if self.rng.random() < 0.5 else str(self.rng.choice([0, 1, 2, 7, 255, -1, 4096]))

    def compute(self, depth: int) -> None:
        rng = self.rng
        if rng.random() < 0.2:
            self.add(f"{self.number()} {rng.choice(['<<=', '>>=', 's>>='])} {rng.choice([1, 8, 31, 32])}")
        else:
            place, value = self.number(), self.operand()
            value = value if rng.random() > 0.3 or not value.startswith("r") else value.replace("r", "w")
            place = place.replace("r", "w") if value.startswith("w") else place
            operation = rng.choice(_OPERATIONS)
            self.add(f"{place} {operation} {value}" if (place, operation) != (value, "=") else f"{place} = 3")

    def slot(self, depth: int) -> None:
        off = self.rng.choice(SLOTS)
        if self.rng.random() < 0.5:
            self.add(f"*(u64 *)(r10 - {-off}) = {self.number()}")
        else:
            width = self.rng.choice([8, 16, 32, 64])
            self.add(f"{self.number()} = *(u{width} *)(r10 - {-off})")

    def packet(self, depth: int) -> None:
        width, off = self.rng.choice([8, 16, 32]), self.rng.randrange(0, 8)
        skip = self.label()
        self.add("r1 = *(u64 *)(r10 - 40)", "r2 = *(u32 *)(r1 + 4)", "r3 = *(u32 *)(r1 + 0)", "r4 = r3", "r4 += 16")
        self.add(f"if r4 > r2 goto {skip}")
        if self.rng.random() < 0.5:
            self.add(f"*(u{width} *)(r3 + {off}) = {self.number()}")
        else:
            self.add(f"{self.number()} = *(u{width} *)(r3 + {off})")
        self.add(f"{skip}:")

    def clock(self, depth: int) -> None:
        self.add("call 5", f"{self.number()} = r0")

    def count_up(self, depth: int) -> None:
        skip = self.label()
        self.add(f"*(u32 *)(r10 - 52) = {self.number()}", "r1 = map[hits] ll", "r2 = r10", "r2 += -52", "call 1")
        self.add(f"if r0 == 0 goto {skip}", "r1 = *(u64 *)(r0 + 0)", f"r1 += {self.operand()}")
        self.add("*(u64 *)(r0 + 0) = r1", f"{skip}:")

    def branch(self, depth: int) -> None:
        other, join = self.label(), self.label()
        width = self.rng.choice("rrw")
        left, right = self.number().replace("r", width), self.operand().replace("r", width)
        self.add(f"if {left} {self.rng.choice(_COMPARISONS)} {right} goto {other}")
        self.statements(self.rng.randint(0, 2), depth - 1)
        self.add(f"goto {join}", f"{other}:")
        self.statements(self.rng.randint(0, 2), depth - 1)
        self.add(f"{join}:")

    def loop(self, depth: int) -> None:
        head = self.label()
        self.add("r1 = 0", "*(u64 *)(r10 - 48) = r1", f"{head}:")
        self.in_loop = True
        self.statements(self.rng.randint(1, 3), depth - 1)
        self.in_loop = False
        bound = self.rng.choice([2, 3, 5])
        self.add("r1 = *(u64 *)(r10 - 48)", "r1 += 1", "*(u64 *)(r10 - 48) = r1", f"if r1 < {bound} goto {head}")


def random_function(rng: random.Random) -> Function:
    writer = _Writer(rng)
    writer.add("*(u64 *)(r10 - 40) = r1", "r6 = *(u32 *)(r1 + 12)", "r7 = *(u32 *)(r1 + 16)", "r8 = 1", "r9 = r6")
    writer.add(*(f"*(u64 *)(r10 - {-off}) = r{number}" for off, number in zip(SLOTS, NUMBERS, strict=True)))
    writer.statements(rng.randint(3, 6), 2)
    writer.add(f"r0 = {writer.number()}", "exit")
    return tidy(function("\n".join(writer.lines)))


def tidy(f: Function) -> Function:
    """Without empty blocks: branches to one go to the block behind it."""
    blocks = list(f.blocks)
    while True:
        empty = next((at for at, block in enumerate(blocks[:-1]) if not block.insns), None)
        if empty is None:
            return replace(f, blocks=tuple(blocks))
        gone, kept = blocks[empty].label, blocks[empty + 1].label
        del blocks[empty]
        blocks = [_retargeted(block, {gone: kept}) for block in blocks]


def _retargeted(block: Block, names: dict[str, str]) -> Block:
    return replace(block, insns=tuple(_to(insn, names) for insn in block.insns))


def _to(insn: Insn, names: dict[str, str]) -> Insn:
    if "target" not in insn.row.uses or insn.ref is None:
        return insn
    return replace(insn, ref=label(names.get(insn.ref.name, insn.ref.name)))


# ---- transformations that are right ----


def explicit(f: Function) -> list[Block]:
    """The blocks with every fall-through as a jump, so that they may stand in any order."""
    result = []
    for at, block in enumerate(f.blocks):
        last = block.insns[-1] if block.insns else None
        if not falls_through(block):
            result.append(block)
            continue
        onward = make("ja", ref=label(f.blocks[at + 1].label))
        if last is not None and last.row.is_block_end:
            hop = Block(_fresh(f, f"{block.label}_on"), (onward,))
            result += [block, hop]
        else:
            result.append(replace(block, insns=(*block.insns, onward)))
    return result


def _fresh(f: Function, name: str) -> str:
    taken = {block.label for block in f.blocks}
    while name in taken:
        name += "_"
    return name


def falls_to_hop(groups: list[list[Block]]) -> bool:
    """Does the last block of the last group still fall through?"""
    return bool(groups) and falls_through(groups[-1][-1])


def without_needless_jumps(blocks: list[Block]) -> tuple[Block, ...]:
    result = []
    for at, block in enumerate(blocks):
        following = blocks[at + 1].label if at + 1 < len(blocks) else ""
        last = block.insns[-1] if block.insns else None
        if last is not None and last.row.name == "ja" and last.ref is not None and last.ref.name == following:
            block = replace(block, insns=block.insns[:-1])
        result.append(block)
    return tuple(result)


def reorder(rng: random.Random, f: Function) -> Function:
    groups: list[list[Block]] = []
    for block in explicit(f):
        if falls_to_hop(groups):
            groups[-1].append(block)
        else:
            groups.append([block])
    rest = groups[1:]
    rng.shuffle(rest)
    blocks = [block for group in (groups[0], *rest) for block in group]
    return tidy(replace(f, blocks=without_needless_jumps(blocks)))


_OPPOSITE = {"jeq": "jne", "jgt": "jle", "jlt": "jge", "jsgt": "jsle", "jslt": "jsge"}
_OPPOSITE |= {b: a for a, b in _OPPOSITE.items()}


def invert(rng: random.Random, f: Function) -> Function:
    blocks: list[Block] = []
    for at, block in enumerate(f.blocks):
        last = block.insns[-1] if block.insns else None
        if last is None or last.row.op not in _OPPOSITE or rng.random() < 0.5 or at + 1 == len(f.blocks):
            blocks.append(block)
            continue
        row = BY_NAME[last.row.name.replace(last.row.op, _OPPOSITE[last.row.op], 1)]
        assert last.ref is not None
        other = replace(last, row=row, ref=label(f.blocks[at + 1].label))
        blocks.append(replace(block, insns=(*block.insns[:-1], other)))
        blocks.append(Block(_fresh(f, f"{block.label}_i"), (make("ja", ref=last.ref),)))
    return replace(f, blocks=tuple(blocks))


def thread(rng: random.Random, f: Function) -> Function:
    """Jumps to blocks that only jump go where those go; some jumps get a copy of a short block."""
    blocks = explicit(f)
    hops: dict[str, str] = {}
    for block in blocks:
        if len(block.insns) == 1 and block.insns[0].row.name == "ja" and block.insns[0].ref is not None:
            hops[block.label] = block.insns[0].ref.name
    names = {name: hops.get(target, target) for name, target in hops.items()}
    blocks = [_retargeted(block, names) for block in blocks]
    by_label = {block.label: block for block in blocks}
    result = []
    for block in blocks:
        last = block.insns[-1]
        copied = by_label[last.ref.name] if last.row.name == "ja" and last.ref is not None else None
        can_copy = copied is not None and copied.insns[-1].kind in (Kind.JUMP, Kind.EXIT) and len(copied.insns) < 8
        if copied is not None and can_copy and rng.random() < 0.5:
            block = replace(block, insns=(*block.insns[:-1], *copied.insns))
        result.append(block)
    return tidy(replace(f, blocks=without_needless_jumps(_reached(f, result))))


def _reached(f: Function, blocks: list[Block]) -> list[Block]:
    edges = successors(replace(f, blocks=tuple(blocks)))
    seen, pending = {blocks[0].label}, [blocks[0].label]
    while pending:
        for name in edges[pending.pop()]:
            if name not in seen:
                seen.add(name)
                pending.append(name)
    return [block for block in blocks if block.label in seen]


def rename(rng: random.Random, f: Function) -> Function:
    new = list(NUMBERS)
    rng.shuffle(new)
    names = dict(zip(NUMBERS, new, strict=True))

    def renamed(insn: Insn) -> Insn:
        dst = names.get(insn.dst, insn.dst) if "dst" in insn.row.uses else insn.dst
        src = names.get(insn.src, insn.src) if "src" in insn.row.uses else insn.src
        return replace(insn, dst=dst, src=src)

    return _each(f, renamed)


def move_slots(rng: random.Random, f: Function) -> Function:
    new = list(SLOTS)
    rng.shuffle(new)
    names = dict(zip(SLOTS, new, strict=True))

    def moved(insn: Insn) -> Insn:
        is_slot = insn.row.is_memory_access and 10 in (insn.src, insn.dst) and insn.off in names
        return replace(insn, off=names[insn.off]) if is_slot else insn

    return _each(f, moved)


def _each(f: Function, change: Callable[[Insn], Insn]) -> Function:
    return replace(f, blocks=tuple(replace(b, insns=tuple(map(change, b.insns))) for b in f.blocks))


def add_dead_code(rng: random.Random, f: Function) -> Function:
    """Writes to r5, which the functions never read."""
    blocks = []
    for block in f.blocks:
        at = rng.randrange(len(block.insns)) if block.insns else 0
        dead = (make("mov64_imm", 5, imm=rng.randrange(100)), make("add64_reg", 5, rng.choice(NUMBERS)))
        is_added = rng.random() < 0.4
        blocks.append(replace(block, insns=(*block.insns[:at], *dead, *block.insns[at:])) if is_added else block)
    return replace(f, blocks=tuple(blocks))


TRANSFORMATIONS = (reorder, invert, thread, rename, move_slots, add_dead_code)


def transformed(rng: random.Random, f: Function) -> tuple[Function, str]:
    """The function after one to three transformations, and their names."""
    names = []
    for change in rng.sample(TRANSFORMATIONS, rng.randint(1, 3)):
        f = change(rng, f)
        names.append(change.__name__)
    return f, ", ".join(names)


def mutated(rng: random.Random, f: Function) -> Function:
    """One instruction with one field changed, one instruction less, or one branch that goes elsewhere."""
    at = rng.randrange(len(f.blocks))
    block = f.blocks[at]
    if not block.insns:
        return f
    index = rng.randrange(len(block.insns))
    insn = block.insns[index]
    changed: tuple[Insn, ...] = (_mutant(rng, f, insn),)
    if rng.random() < 0.15 and not insn.row.is_block_end:
        changed = ()
    blocks = list(f.blocks)
    blocks[at] = replace(block, insns=(*block.insns[:index], *changed, *block.insns[index + 1 :]))
    return tidy(replace(f, blocks=tuple(blocks)))


def _mutant(rng: random.Random, f: Function, insn: Insn) -> Insn:
    what = rng.choice(sorted(insn.row.uses | {"row"}))
    if what == "row" and insn.kind in (Kind.ALU, Kind.BRANCH):
        alike = [row for row in ROWS if row.kind is insn.kind and row.uses == insn.row.uses and row is not insn.row]
        return replace(insn, row=rng.choice(alike))
    if what == "target":
        return replace(insn, ref=label(rng.choice(f.blocks).label))
    if what == "imm" and insn.kind is not Kind.CALL and insn.row.op not in ("lsh", "rsh", "arsh"):
        return replace(insn, imm=insn.imm ^ 1 << rng.randrange(12))
    if what == "off" and insn.row.is_memory_access:
        return replace(insn, off=insn.off ^ rng.choice([1, 2, 8, 16]) if insn.row.size == 1 else insn.off ^ 8)
    if what in ("dst", "src") and getattr(insn, what) in NUMBERS:
        number = rng.choice(NUMBERS)
        return replace(insn, dst=number) if what == "dst" else replace(insn, src=number)
    return insn


# ---- what a run shows ----


@dataclass(slots=True)
class World(Machine):
    """Context words and packet as the seed says; map values, clocks and lookups answer from a script by event."""

    seed: int = 0
    seen: list[tuple[object, ...]] = field(default_factory=list)

    def scripted(self, bits: int) -> int:
        return random.Random(f"{self.seed} {len(self.seen)}").getrandbits(bits)

    def load(self, address: int, size: int) -> int:
        if CTX <= address < CTX + 64:
            return self.context(address - CTX)
        if VALUE <= address < VALUE + 64:
            self.seen.append(("load", address, size))
            return self.scripted(8 * size)
        return Machine.load(self, address, size)

    def context(self, off: int) -> int:
        rng = random.Random(f"{self.seed} context {off}")
        length = rng.choice([0, 15, 16, PACKET_BYTES])
        known = {0: PACKET, 4: PACKET + random.Random(f"{self.seed} length").choice([0, 15, 16, length, PACKET_BYTES])}
        return known.get(off, rng.choice([0, 1, 2, 7, 8, 255, 4096, (1 << 32) - 1, rng.getrandbits(32)]))

    def store(self, address: int, size: int, value: int) -> None:
        if VALUE <= address < VALUE + 64:
            self.seen.append(("store", address, size, value & ((1 << 8 * size) - 1)))
        else:
            Machine.store(self, address, size, value)

    def answer(self, insn: Insn) -> int:
        if insn.imm == 1:
            key = Machine.load(self, self.registers[2], 4)
            self.seen.append(("lookup", self.registers[1], key))
            return VALUE if self.scripted(2) else 0
        self.seen.append(("call", insn.imm))
        return self.scripted(self.scripted(6) + 1)


def _answer(machine: Machine, insn: Insn) -> int:
    assert isinstance(machine, World)
    return machine.answer(insn)


def _place(ref: Ref) -> int:
    return MAP + 0x100 * len(ref.name)


def shown(f: Function, seed: int, order: str) -> object | None:
    """What a run shows: events in order, the packet, the result; None where the machine cannot run it to its end."""
    rng = random.Random(f"{seed} bytes")
    machine = World([rng.getrandbits(64) for _ in range(11)], order="big" if order == "big" else "little", seed=seed)
    machine.registers[1] = CTX
    machine.call, machine.address = _answer, _place
    map_frame(machine, TOP, rng.randbytes(512))
    machine.map_bytes(PACKET, rng.randbytes(PACKET_BYTES))
    outcome = run_function(f, machine, 4000)
    if outcome.stop is Stop.STEPS:
        return "runs on"
    if outcome.stop is not Stop.EXIT:
        return None
    return machine.seen, machine.registers[0], [machine.memory[PACKET + at] for at in range(PACKET_BYTES)]
