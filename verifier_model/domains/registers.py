"""What is known of one register: its type, provenance and value (kernel/bpf/verifier.c, struct bpf_reg_state)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from verifier_model.bpf.insn import Ref
from verifier_model.domains.ranges import signed
from verifier_model.domains.scalar import U64_MAX, Scalar


class Region(Enum):
    """The type of a register's content: a number, a pointer into a region, or nothing that may be used."""

    UNINIT = "uninit"
    SCALAR = "scalar"
    CTX = "ctx"
    STACK = "stack"
    PACKET = "packet"
    PACKET_META = "packet_meta"
    PACKET_END = "packet_end"
    MAP = "map"  # the map itself (a wide load of a map symbol)
    MAP_VALUE = "map_value"  # a value returned by a lookup
    DATA = "data"  # inside .data, .bss, .rodata, ...
    MEMORY = "memory"  # memory a helper returned: ring buffer reservation, dynptr slice, ...
    OBJECT = "object"  # kernel object (socket, task, BTF-typed pointer)
    FUNCTION = "function"
    OWNED = "owned"  # in stack slots alone: part of a dynptr, an iterator, saved interrupt flags (`symbol` says which)
    UNKNOWN = "unknown"  # initialised, but of no type we can name: top of the lattice


class Trust(Enum):
    """How far the kernel trusts a pointer to one of its objects (enum bpf_type_flag in include/linux/bpf.h)."""

    TRUSTED = "trusted_"  # valid, and not NULL
    RCU = "rcu_"  # valid until the RCU section ends
    PLAIN = ""  # found by walking: may be NULL or dangling, reading through it gives 0 then
    UNTRUSTED = "untrusted_"  # the same, and of no use as an argument
    PERCPU = "percpu_"  # an offset that per_cpu_ptr makes a pointer of
    USER = "user_"  # an address of user space
    LOCAL = "alloc_"  # an object of the program's own, of a type of its own, and the program has to give it back
    BORROWED = "non_own_"  # the same, but it lies in a list or tree: valid until the lock around that is given back


@dataclass(frozen=True, slots=True)
class ObjectType:
    """What an OBJECT pointer points to.

    `name`: a view of the UAPI (`contracts.contexts.VIEWS`) or a structure of the kernel, without flavor; "" stands for
    whatever the source takes it for, where nothing tells its type.  `type_id`: the structure in the BTF that the
    analysis goes by, 0 for views and where it is not known.
    """

    name: str
    type_id: int = 0
    trust: Trust = Trust.PLAIN


POINTERS = frozenset(Region) - {Region.UNINIT, Region.SCALAR, Region.OWNED, Region.UNKNOWN}
SHARED = frozenset({Region.MAP_VALUE, Region.DATA, Region.OBJECT, Region.MEMORY, Region.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Register:
    """Facts about a register's content; all offsets and sizes in bytes.

    For SCALAR, `value` bounds the number and `off` is 0.  For a pointer the address is
    base(region, id, symbol, frame) + variable part + off, and `value` bounds the variable part.
    `id`: two registers of one region, symbol and equal non-zero id have the same base and the same variable part;
    two scalars with one non-zero id have equal 64-bit values.
    `base`: which object the pointer points into; two pointers with equal non-zero base differ only in offsets.
    `packet_range`: bytes from (base + variable part) that a comparison with the packet's end proved readable;
    negative: proved to lie at the end or behind it (`checker.branches`).
    `size`: bytes of the object (MAP_VALUE, DATA, MEMORY), 0 unknown.
    `symbol`: the map's or section's name; `exact`: the wide load's ref and addend that produced exactly this value.
    `object`: what an OBJECT is, None unknown.
    `owner`: the id of the reference, dynptr or iterator without which this pointer is worth nothing; 0 none.
    `readonly`: MEMORY that the program must not write.
    `assumed_safe`: a fact that rests on "otherwise the kernel would refuse", not on semantics and contracts alone.
    """

    region: Region
    value: Scalar = field(default_factory=Scalar.top)
    off: int = 0
    id: int = 0
    base: int = 0
    nullable: bool = False
    symbol: str = ""
    size: int = 0
    packet_range: int = 0
    frame: int = 0
    exact: Ref | None = None
    assumed_safe: bool = False
    object: ObjectType | None = None
    owner: int = 0
    readonly: bool = False

    @property
    def is_pointer(self) -> bool:
        return self.region in POINTERS

    @property
    def is_scalar(self) -> bool:
        return self.region is Region.SCALAR

    @property
    def constant_off(self) -> int | None:
        """Signed bytes from the region's base when the variable part is known to be one number, else None.

        Addresses wrap at 64 bits, and so does the sum.
        """
        constant = self.value.constant
        return None if constant is None else signed(64, constant + self.off & U64_MAX)

    @staticmethod
    def uninit() -> Register:
        return Register(Region.UNINIT)

    @staticmethod
    def unknown() -> Register:
        return Register(Region.UNKNOWN)

    @staticmethod
    def scalar(value: Scalar, id: int = 0) -> Register:
        return Register(Region.SCALAR, value, id=id)
