"""A function that cannot be written takes along what was proved beside it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import llvm_bridge.writer
from llvm_bridge.object import Object, Untouched
from object_stage import optimise_bytes
from synth.settings import Settings
from tests.end_to_end.objects import compiled
from verifier_model.bpf.unit import Unit

PASSES_ONLY = Settings(tiers=("passes",))


def refuse(name: str) -> Callable[..., bytes | Untouched]:
    """The writer, which finds no place for `name` once that has changed."""
    write = llvm_bridge.writer.write_object

    def refusing(source: Object, unit: Unit, losses: object = None) -> bytes | Untouched:
        if unit.function(name) != source.unit.function(name):
            return Untouched("does not fit", name)
        return write(source, unit)

    return refusing


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize(
    ("example", "refused", "kept"),
    [
        ("xdp_balancer", "encapsulate", {"encapsulate", "hash_flow", "header_checksum", "xdp_balancer"}),
        ("trace_open", "trace_open_exit", {"trace_open_exit"}),
    ],
)
def test_functions_joined_by_calls_stay_together(
    example: str, refused: str, kept: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = compiled(example)
    assert optimise_bytes(image, PASSES_ONLY, 3).data != image
    monkeypatch.setattr(llvm_bridge.writer, "write_object", refuse(refused))
    outcome = optimise_bytes(image, PASSES_ONLY, 3)
    assert {function.name for function in outcome.record.functions if function.kept_reason == "does not fit"} == kept
    assert outcome.data == image
