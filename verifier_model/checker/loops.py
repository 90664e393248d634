"""Which blocks control can come back to."""

from __future__ import annotations

from verifier_model.bpf.flow import successors
from verifier_model.bpf.unit import Function


def cyclic_labels(function: Function) -> frozenset[str]:
    """Labels of blocks from which control may reach the same block again."""
    following = successors(function)
    order = {block.label: at for at, block in enumerate(function.blocks)}
    if all(order[other] > order[label] for label, others in following.items() for other in others):
        return frozenset()
    return frozenset(label for label in order if _returns(label, following))


def _returns(label: str, following: dict[str, tuple[str, ...]]) -> bool:
    waiting, seen = list(following[label]), set()
    while waiting:
        at = waiting.pop()
        if at == label:
            return True
        if at not in seen:
            seen.add(at)
            waiting.extend(following[at])
    return False
