"""Whole objects into the running kernel through libbpf.so.1: as users load them.

Nothing is pinned or attached.  libbpf's global state (print callback, section handlers) makes this single-threaded.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from verifier_model.bpf.sections import program_type
from verifier_model.contracts.maps import BY_NAME as MAP_NAMES
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.kernel.maps import KernelMap
from verifier_model.kernel.programs import LoadedObject, LoadedProgram
from verifier_model.kernel.syscall import LOG_BYTES, Refused, is_permitted, tail

_LIBRARY: Final = "libbpf.so.1"
_P, _I, _U, _Z, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_size_t, ctypes.c_char_p
_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "bpf_object__open_mem": (_P, (_P, _Z, _P)),
    "bpf_object__load": (_I, (_P,)),
    "bpf_object__close": (None, (_P,)),
    "bpf_object__next_program": (_P, (_P, _P)),
    "bpf_object__next_map": (_P, (_P, _P)),
    "bpf_program__name": (_S, (_P,)),
    "bpf_program__section_name": (_S, (_P,)),
    "bpf_program__type": (_I, (_P,)),
    "bpf_program__set_type": (_I, (_P, _I)),
    "bpf_program__fd": (_I, (_P,)),
    "bpf_program__set_autoload": (_I, (_P, ctypes.c_bool)),
    "bpf_program__set_log_buf": (_I, (_P, _P, _Z)),
    "bpf_program__set_log_level": (_I, (_P, _U)),
    "bpf_program__insns": (_P, (_P,)),
    "bpf_program__insn_cnt": (_Z, (_P,)),
    "bpf_program__set_insns": (_I, (_P, _P, _Z)),
    "bpf_map__name": (_S, (_P,)),
    "bpf_map__fd": (_I, (_P,)),
    "bpf_map__type": (_I, (_P,)),
    "bpf_map__key_size": (_U, (_P,)),
    "bpf_map__value_size": (_U, (_P,)),
    "bpf_map__max_entries": (_U, (_P,)),
    "bpf_map__set_max_entries": (_I, (_P, _U)),
    "bpf_map__set_pin_path": (_I, (_P, _S)),
    "bpf_map__set_initial_value": (_I, (_P, _P, _Z)),
    "bpf_map__initial_value": (_P, (_P, ctypes.POINTER(_Z))),
    "bpf_map__is_internal": (ctypes.c_bool, (_P,)),
    "libbpf_set_print": (_P, (_P,)),
    "libbpf_register_prog_handler": (_I, (_S, _I, _I, _P)),
    "libbpf_unregister_prog_handler": (_I, (_I,)),
}
_PRINT: Final = ctypes.CFUNCTYPE(_I, _I, _S, _P)
_PREPARE: Final = ctypes.CFUNCTYPE(_I, _P, _P, ctypes.c_long)


class LibbpfMissingError(RuntimeError):
    """libbpf.so.1 is not on this machine (Debian package libbpf1)."""


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        raise LibbpfMissingError(f"{_LIBRARY} is missing (Debian package libbpf1)") from error
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def is_available() -> bool:
    """Can objects be loaded here: libbpf present and bpf(2) permitted?"""
    try:
        _library()
    except LibbpfMissingError:
        return False
    return is_permitted()


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load.

    `only`: names of the programs to load, None for all that load by themselves.  `max_entries` overrides sizes of maps
    by name, and `largest_array` cuts arrays down, so that they are quick to fill and read.
    `data`: initial contents of internal maps (".rodata", ".data", ".bss"), by section; shorter contents keep the rest.
    `rewrite`: (program name, relocated instructions) -> instructions, called just before PROG_LOAD; where they change,
    function and line records are left out, which suits programs without callbacks only.  `attach`: for these the
    expected attach type, the BTF id of the kernel's function and BPF_F_ flags, by program, as libbpf would find them.
    """

    only: frozenset[str] | None = None
    max_entries: Mapping[str, int] = field(default_factory=dict)
    largest_array: int | None = None
    data: Mapping[str, bytes] = field(default_factory=dict)
    rewrite: Callable[[str, bytes], bytes] | None = None
    attach: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)


class _OpenOptions(ctypes.Structure):
    _fields_ = (("sz", _Z), ("object_name", _S))


class _HandlerOptions(ctypes.Structure):
    _fields_ = (("sz", _Z), ("cookie", ctypes.c_long), ("setup", _P), ("prepare", _PREPARE), ("attach", _P))


class _ProgLoadOptions(ctypes.Structure):
    """The start of struct bpf_prog_load_opts (libbpf, src/bpf.h), whose order is frozen by its `sz` rule."""

    _fields_ = (
        ("sz", _Z),
        ("attempts", _I),
        ("expected_attach_type", _I),
        ("prog_btf_fd", _U),
        ("prog_flags", _U),
        ("prog_ifindex", _U),
        ("kern_version", _U),
        ("attach_btf_id", _U),
        ("attach_prog_fd", _U),
        ("attach_btf_obj_fd", _U),
        ("fd_array", _P),
        ("func_info", _P),
        ("func_info_cnt", _U),
        ("func_info_rec_size", _U),
        ("line_info", _P),
        ("line_info_cnt", _U),
        ("line_info_rec_size", _U),
    )


_KERNEL_TYPES: Final = {row.name: row.number for row in PROGRAM_TYPES.values()}
_ARRAYS: Final = frozenset({MAP_NAMES["array"].number, MAP_NAMES["percpu_array"].number})
_TYPE_NAMES: Final = {row.number: row.name for row in PROGRAM_TYPES.values()}


def load_object(data: bytes, options: LoadOptions | None = None) -> LoadedObject | Refused:
    """Load every program of an ELF object: all of them, or why not.

    Raises PermissionError when bpf(2) is not allowed and LibbpfMissingError without the library: neither is a verdict.
    """
    if not is_permitted():
        raise PermissionError(1, "bpf(2) does not allow this process to load programs")
    options = options or LoadOptions()
    with _captured_messages() as messages, _section_handlers(data, options):
        return _load(data, options, messages)


def _load(data: bytes, options: LoadOptions, messages: list[str]) -> LoadedObject | Refused:
    library = _library()
    image = ctypes.create_string_buffer(data, len(data))
    name = _OpenOptions(ctypes.sizeof(_OpenOptions), b"k2")
    handle = library.bpf_object__open_mem(image, len(data), ctypes.byref(name))
    if not handle:
        return Refused("", "libbpf cannot open the object", tail("".join(messages)))
    try:
        logs = _prepare_programs(handle, options)
        _prepare_maps(handle, options)
        error = library.bpf_object__load(handle)
        if error:
            refused, log = _first_refused(logs)
            return Refused(refused, os.strerror(-error), tail(log or "".join(messages)))
        return _collect(handle)
    finally:
        library.bpf_object__close(handle)


def _each(handle: int, following: Callable[[int, int | None], int | None]) -> Iterator[int]:
    item = following(handle, None)
    while item:
        yield item
        item = following(handle, item)


def _prepare_programs(handle: int, options: LoadOptions) -> dict[str, ctypes.Array[ctypes.c_char]]:
    library = _library()
    logs = {}
    for program in _each(handle, library.bpf_object__next_program):
        name = library.bpf_program__name(program).decode()
        if options.only is not None and name not in options.only:
            library.bpf_program__set_autoload(program, False)
            continue
        if options.only is not None:
            # Programs of sections like SEC("?xdp") are not loaded unless asked for, and these are.
            library.bpf_program__set_autoload(program, True)
        if library.bpf_program__type(program) == 0:
            # Section names of before libbpf 1.0 (SEC("xdp1")): the type follows from the old, looser rules.
            kind = program_type(library.bpf_program__section_name(program).decode())
            if kind is not None:
                library.bpf_program__set_type(program, _KERNEL_TYPES[kind])
        log = ctypes.create_string_buffer(LOG_BYTES)
        library.bpf_program__set_log_buf(program, log, len(log))
        logs[name] = log
    return logs


def _prepare_maps(handle: int, options: LoadOptions) -> None:
    library = _library()
    for item in _each(handle, library.bpf_object__next_map):
        name = library.bpf_map__name(item).decode()
        library.bpf_map__set_pin_path(item, None)
        size = options.max_entries.get(name)
        if size is None and options.largest_array and library.bpf_map__type(item) in _ARRAYS:
            size = min(library.bpf_map__max_entries(item), options.largest_array)
        if size is not None:
            library.bpf_map__set_max_entries(item, size)
        section = internal_section(name) if library.bpf_map__is_internal(item) else None
        contents = options.data.get(section) if section else None
        if contents is not None:
            length = _Z()
            start = library.bpf_map__initial_value(item, ctypes.byref(length))
            full = contents[: length.value] + ctypes.string_at(start, length.value)[len(contents) :]
            library.bpf_map__set_initial_value(item, ctypes.create_string_buffer(full, length.value), length.value)


def internal_section(map_name: str) -> str | None:
    """The data section that libbpf made this internal map from: "k2.rodata" and ".rodata.cst16" end in its name."""
    at = map_name.find(".")
    return map_name[at:] if at >= 0 else None


def _first_refused(logs: dict[str, ctypes.Array[ctypes.c_char]]) -> tuple[str, str]:
    for name, log in logs.items():
        if log.value:
            return name, log.value.decode(errors="replace")
    return "", ""


def _collect(handle: int) -> LoadedObject:
    """Programs and maps with descriptors of their own, so that libbpf's object can be closed."""
    library = _library()
    programs, maps = {}, {}
    for program in _each(handle, library.bpf_object__next_program):
        fd = library.bpf_program__fd(program)
        if fd < 0:
            continue
        name = library.bpf_program__name(program).decode()
        kind = _TYPE_NAMES.get(library.bpf_program__type(program), "unknown")
        programs[name] = LoadedProgram(os.dup(fd), name, kind)
    for item in _each(handle, library.bpf_object__next_map):
        fd = library.bpf_map__fd(item)
        if fd < 0:
            continue
        name = library.bpf_map__name(item).decode()
        shown = internal_section(name) if library.bpf_map__is_internal(item) else None
        maps[shown or name] = KernelMap(
            os.dup(fd),
            shown or name,
            library.bpf_map__type(item),
            library.bpf_map__key_size(item),
            library.bpf_map__value_size(item),
            library.bpf_map__max_entries(item),
        )
    return LoadedObject(programs, maps)


@contextmanager
def _captured_messages() -> Iterator[list[str]]:
    """libbpf's own messages, formatted by vsnprintf, instead of on stderr."""
    messages: list[str] = []
    libc = ctypes.CDLL(None)

    def print_message(level: int, text: bytes, arguments: int) -> int:
        if level > 1:  # debugging
            return 0
        line = ctypes.create_string_buffer(4096)
        libc.vsnprintf(line, _Z(len(line)), ctypes.c_char_p(text), _P(arguments))
        messages.append(line.value.decode(errors="replace"))
        return 0

    callback = _PRINT(print_message)
    library = _library()
    old = library.libbpf_set_print(ctypes.cast(callback, _P))
    try:
        yield messages
    finally:
        library.libbpf_set_print(old)


@cache
def _keep_one_handler() -> None:
    """A handler that stays: libbpf before 1.4 leaves a dangling pointer behind when its last one goes."""
    handler = _HandlerOptions(ctypes.sizeof(_HandlerOptions))
    _library().libbpf_register_prog_handler(b"k2_never_a_section", 0, 0, ctypes.byref(handler))


@contextmanager
def _section_handlers(data: bytes, options: LoadOptions) -> Iterator[None]:
    """While loading with `rewrite`: our own handler for each program section, which edits at the last moment."""
    if options.rewrite is None:
        yield
        return
    _keep_one_handler()
    library, rewrite = _library(), options.rewrite
    kept: list[object] = []

    def prepare(program: int, load: int, cookie: int) -> int:
        name = library.bpf_program__name(program).decode()
        count = library.bpf_program__insn_cnt(program)
        old = ctypes.string_at(library.bpf_program__insns(program), count * 8)
        new = rewrite(name, old)
        if new == old:
            return 0
        buffer = ctypes.create_string_buffer(new, len(new))
        kept.append(buffer)
        fields = ctypes.cast(load, ctypes.POINTER(_ProgLoadOptions)).contents
        if name in options.attach:
            fields.expected_attach_type, fields.attach_btf_id, fields.prog_flags = options.attach[name]
        fields.func_info_cnt = fields.line_info_cnt = 0
        fields.func_info = fields.line_info = None
        return int(library.bpf_program__set_insns(program, buffer, len(new) // 8))

    callback = _PREPARE(prepare)
    handler = _HandlerOptions(ctypes.sizeof(_HandlerOptions), 0, None, callback, None)
    ids = []
    for section in _program_sections(data):
        kind = _KERNEL_TYPES[program_type(section) or "unspec"]
        ids.append(library.libbpf_register_prog_handler(section.encode(), kind, 0, ctypes.byref(handler)))
    try:
        yield
    finally:
        for number in ids:
            if number >= 0:
                library.libbpf_unregister_prog_handler(number)


def _program_sections(data: bytes) -> list[str]:
    """Names of the sections that hold programs of a known type, asked of libbpf itself."""
    library = _library()
    image = ctypes.create_string_buffer(data, len(data))
    name = _OpenOptions(ctypes.sizeof(_OpenOptions), b"k2")
    handle = library.bpf_object__open_mem(image, len(data), ctypes.byref(name))
    if not handle:
        return []
    try:
        names = (
            library.bpf_program__section_name(item).decode() for item in _each(handle, library.bpf_object__next_program)
        )
        return sorted({section for section in names if program_type(section) is not None})
    finally:
        library.bpf_object__close(handle)
