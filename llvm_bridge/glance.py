"""A first look at an object, without the reader: it imports nothing, because most looks end here."""

from __future__ import annotations

_EXECUTABLE = 4  # SHF_EXECINSTR
_SECTION_HEADER = 64  # bytes, of an ELF64 file


def has_code(data: bytes) -> bool:
    """Is there an instruction in the object?  True as well where its section headers are not as they should be."""
    order = {b"\x01": "little", b"\x02": "big"}.get(data[5:6])
    if data[:5] != b"\x7fELF\x02" or order is None or len(data) < _SECTION_HEADER:
        return True

    def number(start: int, size: int) -> int:
        return int.from_bytes(data[start : start + size], "little" if order == "little" else "big")

    start, size, count = number(40, 8), number(58, 2), number(60, 2)
    if size != _SECTION_HEADER or count == 0 or start + size * count > len(data):
        return True
    headers = range(start, start + size * count, size)
    return any(number(header + 8, 8) & _EXECUTABLE and number(header + 32, 8) for header in headers)
