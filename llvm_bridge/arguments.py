"""A cheap look at a compiler's arguments: can this run write an object for us at all?

Configure scripts run a compiler hundreds of times to ask it something, so this imports nothing that takes time
(`typing` takes as long as the rest of Python), and most runs end here.
"""

# ruff: noqa: PTH113, PTH123, PTH202

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

# With one of these no object comes out of this run, or none that is ours to touch.
_NO_OBJECT: Final = frozenset(
    [
        "-E",
        "-S",
        "-M",
        "-MM",
        "-###",
        "-fsyntax-only",
        "--preprocess",
        "--assemble",
        "-emit-llvm",
        "-emit-ast",
        "--analyze",
        "--version",
        "-version",
        "--help",
        "-help",
        "-cc1",
        "-cc1as",
        "--precompile",
    ]
)
_NO_OBJECT_PREFIXES: Final = ("-print-", "--print-", "-dump", "-flto", "-fembed-bitcode", "--target-help")
_OBJECT_BY_LLC: Final = ("-filetype=obj", "--filetype=obj")
_MAX_RESPONSE_DEPTH: Final = 20
_MAX_RESPONSE_BYTES: Final = 1 << 22


def may_write_object(arguments: Sequence[str]) -> bool:
    """Cheap and without running anything: False means that no object of ours can come out of this run."""
    words = expand(arguments)
    if writes_by_llc(words):
        return True
    if "-c" not in words and "--compile" not in words:
        return False
    if any(word in _NO_OBJECT for word in words):
        return False
    return not any(word.startswith(_NO_OBJECT_PREFIXES) for word in words)


def writes_by_llc(words: Sequence[str]) -> bool:
    """Do the arguments, already expanded, have llc write an object?"""
    return any(word in _OBJECT_BY_LLC for word in words)


def expand(arguments: Sequence[str]) -> list[str]:
    """The arguments with `@file` replaced by the file's words (GNU rules, nested); an unreadable file stays a word."""
    return list(_expand(arguments, 0))


def _expand(arguments: Sequence[str], depth: int) -> Iterator[str]:
    for argument in arguments:
        text = _response_text(argument) if argument.startswith("@") and depth < _MAX_RESPONSE_DEPTH else None
        if text is None:
            yield argument
        else:
            yield from _expand(split_words(text), depth + 1)


def _response_text(argument: str) -> str | None:
    try:
        if not os.path.isfile(argument[1:]) or os.path.getsize(argument[1:]) > _MAX_RESPONSE_BYTES:
            return None
        with open(argument[1:], encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


def split_words(text: str) -> list[str]:
    """Words as in a GNU response file: white space separates, quotes of both kinds group, a backslash takes the
    next."""
    words: list[str] = []
    word: list[str] = []
    quote, inside, escaped = "", False, False
    for character in text:
        if escaped:
            word.append(character)
            escaped = False
        elif character == "\\":
            inside = escaped = True
        elif quote:
            if character == quote:
                quote = ""
            else:
                word.append(character)
        elif character in "\"'":
            quote, inside = character, True
        elif character.isspace():
            if inside:
                words.append("".join(word))
            word, inside = [], False
        else:
            word.append(character)
            inside = True
    return [*words, "".join(word)] if inside else words
