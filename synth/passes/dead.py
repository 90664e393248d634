"""Instructions whose results nobody looks at."""

from __future__ import annotations

from collections.abc import Iterator

from synth.passes.block_view import BlockView
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.isa import Kind


def dead_code(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """Drop computations, private loads and stack stores without a reader.

    Each gets its own rewrite; what only fed it is dead in the next round, or is taken along when it stands in front.
    """
    for index in range(len(view.insns)):
        insn = view.insns[index]
        if insn.kind in (Kind.CALL, Kind.EXIT) or insn.row.is_block_end or view.is_frozen(index):
            continue
        line = view.line(index)
        if not view.is_useless(line, view.live_after((line,), index + 1)[0]):
            continue
        rewrite = view.finish(view.draft({index: ()}), "dead-code", "nobody reads the result")
        if rewrite is not None:
            yield rewrite
