LANES: int
OPERATIONS: list[str]
COMPILER: str

_Insn = tuple[int, int, bool, int, int, int, int]
_Type = tuple[int, bool, int]
_Column = list[int]
_Found = tuple[list[_Insn], int, int]

def variants() -> list[str]: ...
def random_numbers(seed: int, count: int) -> list[int]: ...
def allowances(seed: int, count: int) -> list[int]: ...

class Domain:
    def __init__(
        self,
        alu: list[_Insn],
        memory: list[_Insn],
        wide: list[_Insn],
        immediates: list[int],
        offsets: list[int],
        writable: list[int],
        readable: list[int],
    ) -> None: ...
    def set_branches(self, shapes: list[_Insn], targets: list[int]) -> None: ...
    def instructions(self) -> list[_Insn]: ...

class ChainSettings:
    seed: int
    steps: int
    restart: int
    error_weight: int
    slot_weight: int
    nanosecond_weight: int
    keep: int
    never_slower: bool
    early_stop: bool
    operand_moves: int
    instruction_moves: int
    nop_moves: int
    pair_moves: int
    access_moves: int
    swap_moves: int
    compound_moves: int

class EnumerationSettings:
    longest: int
    budget: int
    keep: int
    never_slower: bool

class Session:
    def __init__(
        self,
        original: list[_Insn],
        rules: list[int],
        types: list[_Type],
        spills: list[tuple[int, _Type]],
        initialised: bytes,
        events: list[tuple[int, int, int, _Type, _Column]],
        symbols: list[tuple[_Type, _Column]],
        register_demand: list[int],
        stack_demand: bytes,
        big_endian: bool,
    ) -> None: ...
    def set_exits(self, exits: list[tuple[list[int], bytes]]) -> None: ...
    def set_costs(self, costs: list[tuple[_Insn, int]]) -> None: ...
    def load(
        self, registers: list[_Column], regions: list[tuple[_Column, _Column, int, bytes]], lanes: str = ""
    ) -> str: ...
    def errors(self, candidate: list[_Insn]) -> int: ...
    def results(self) -> tuple[list[_Column], list[bytes]]: ...
    def event_addresses(self) -> list[_Column]: ...
    def enumerate(self, domain: Domain, settings: EnumerationSettings) -> tuple[list[_Found], int, bool]: ...
    def chain(self, domain: Domain, settings: ChainSettings) -> tuple[list[_Found], int, int]: ...
    def chains(self, domain: Domain, settings: list[ChainSettings], workers: int) -> list[list[_Found]]: ...
    def record_proposals(self, domain: Domain, seed: int, count: int) -> int: ...
    def evaluate_recorded(self, rounds: int) -> int: ...
