"""Two texts beside each other, line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import NamedTuple


class Line(NamedTuple):
    """One line of the pair; `left` or `right` is "" where the other side has no counterpart."""

    left: str
    right: str
    is_changed: bool


LABEL = re.compile(r"\bL\d+\b")


def align(before: str, after: str) -> Iterator[Line]:
    """The lines of both texts in order, equal ones beside each other.

    Labels are named after positions, so the name of one is no difference by itself.
    """
    old, new = before.splitlines(), after.splitlines()
    plain = [[LABEL.sub("L", line) for line in lines] for lines in (old, new)]
    for tag, i1, i2, j1, j2 in SequenceMatcher(a=plain[0], b=plain[1], autojunk=False).get_opcodes():
        for left, right in zip_longest(old[i1:i2], new[j1:j2], fillvalue=""):
            yield Line(left, right, tag != "equal")
