"""Replacing parts of a section, and where everything else then lies."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from llvm_bridge.dwarf_forms import DwarfError


@dataclass
class Edits:
    """Parts [start, end) of a section that are replaced by other bytes; they do not overlap."""

    parts: list[tuple[int, int, bytes]] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _shifts: list[int] = field(default_factory=list)

    def put(self, start: int, end: int, new: bytes) -> None:
        self.parts.append((start, end, new))
        self._starts.clear()

    def moved(self, offset: int) -> int:
        """Where the byte `offset` lies now; raises DwarfError for one inside a replaced part."""
        if not self.parts:
            return offset
        self._prepare()
        where = bisect_right(self._starts, offset) - 1
        if where < 0:
            return offset
        start, end, _ = self.parts[where]
        if start < offset < end:
            raise DwarfError("a reference into something that changed")
        if offset == start < end:
            return offset + (self._shifts[where - 1] if where else 0)
        return offset + self._shifts[where]

    def covers(self, offset: int) -> bool:
        """Is the byte inside a replaced part?"""
        self._prepare()
        where = bisect_right(self._starts, offset) - 1
        return where >= 0 and self.parts[where][0] <= offset < self.parts[where][1]

    def applied(self, data: bytes | bytearray) -> bytes:
        self._prepare()
        out = bytearray()
        at = 0
        for start, end, new in self.parts:
            out += data[at:start]
            out += new
            at = end
        return bytes(out + data[at:])

    def _prepare(self) -> None:
        if self._starts or not self.parts:
            return
        self.parts.sort()
        shift = 0
        self._shifts.clear()
        for start, end, new in self.parts:
            shift += len(new) - (end - start)
            self._starts.append(start)
            self._shifts.append(shift)
