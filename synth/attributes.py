"""What functions say of themselves in C source: `k2:skip`, `k2:goal=size`.

They come as `btf_decl_tag` in the object's own BTF, which any clang from 14 on writes under -g, or as `annotate` in the
record of the pass plugin.  They are wishes: nothing is proved from them, so nobody has to be believed.
"""

from __future__ import annotations

import difflib
import glob
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from synth.settings import GOALS, Settings
from verifier_model.bpf.btf import Btf, Kind
from verifier_model.bpf.unit import Unit

MARK: Final = "k2:"
SKIP: Final = "k2:skip"
GOAL: Final = "k2:goal="
KNOWN: Final = (SKIP, *(GOAL + goal for goal in GOALS))
WHOLE: Final = -1  # a tag's component: the function itself, not a parameter


def honoured(
    unit: Unit, settings: Settings, annotations: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[Settings, tuple[str, ...]]:
    """The settings with what the unit's functions ask for, and sentences about what is not understood.

    `annotations` are the plugin's, by function.  A pattern of the user's goes before a function's own goal.
    """
    skips, goals, problems = [], [], []
    for name, wish in sorted({*_tags(unit.types), *_annotated(annotations or {})}):
        if wish == SKIP:
            skips.append(glob.escape(name))
        elif wish in KNOWN:
            goals.append(f"{glob.escape(name)}={wish.removeprefix(GOAL)}")
        else:
            near = difflib.get_close_matches(wish, KNOWN, n=1)
            problems.append(f"{name}: unknown attribute {wish!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    if skips or goals:
        own = (*settings.skip_funcs, *skips)
        settings = replace(settings, skip_funcs=own, goal_funcs=(*settings.goal_funcs, *goals))
    return settings, tuple(problems)


def _tags(types: Btf | None) -> Iterator[tuple[str, str]]:
    """(function, tag) of every tag of ours on a whole function."""
    for entry in types.types if types is not None else ():
        if entry.kind is not Kind.DECL_TAG or entry.component != WHOLE or not entry.name.startswith(MARK):
            continue
        if types is not None and types.types[entry.type].kind is Kind.FUNC:
            yield types.types[entry.type].name, entry.name


def _annotated(annotations: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    for name, texts in annotations.items():
        yield from ((name, text) for text in texts if text.startswith(MARK))
