"""What a row of the table of passes is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from synth.passes.block_view import BlockView, FactSource
from synth.passes.support import supported
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.unit import Function, Unit

_latest: tuple[FactSource, Unit, tuple[BlockView, ...]] | None = None


def _views(function: Function, facts: FactSource, unit: Unit) -> tuple[BlockView, ...]:
    """The blocks of the function; all passes of a round share what the views work out."""
    global _latest
    if _latest is None or _latest[0] is not facts or _latest[1] is not unit:
        _latest = (facts, unit, tuple(BlockView(function, block, facts, unit) for block in function.blocks))
    return _latest[2]


BlockPass = Callable[[BlockView, Settings], Iterator[Rewrite]]


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass over each block of a function.

    `name` is the proposer's name in reports, `family` the kind of waste that it removes, `equation` one line
    `before == after` as documentation.
    """

    name: str
    family: str
    equation: str
    in_block: BlockPass

    def propose(self, function: Function, facts: FactSource, unit: Unit, settings: Settings) -> Iterator[Rewrite]:
        """Proposals for every reachable block in the order of the layout, in a block those that save most first."""
        if function.untouchable:
            return
        for view in _views(function, facts, unit):
            block = view.block
            if block.insns and facts.is_reachable(view.point(0)):
                # Proposals overlap, and the first one that is proved takes the place.
                for rewrite in sorted(self.in_block(view, settings), key=lambda rewrite: -rewrite.slots_saved):
                    yield supported(view, rewrite)
