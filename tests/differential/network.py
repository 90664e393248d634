"""A network of one's own: a namespace with a veth pair, routes and neighbours, gone when left."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_COMMANDS = """
link set lo up
link add k2a type veth peer name k2b
link set k2a up
link set k2b up
address add 10.77.0.1/24 dev k2a
address add 10.78.0.1/24 dev k2b
route add 198.51.100.0/24 via 10.78.0.2 dev k2b
route add 10.0.0.0/16 via 10.77.0.2 dev k2a
neighbour add 10.78.0.2 lladdr 02:00:00:00:07:08 dev k2b nud permanent
neighbour add 10.77.0.2 lladdr 02:00:00:00:07:07 dev k2a nud permanent
-6 address add fd77::1/64 dev k2b nodad
-6 route add 2001:db8::/32 via fd77::2 dev k2b
-6 neighbour add fd77::2 lladdr 02:00:00:00:06:06 dev k2b nud permanent
"""


@contextmanager
def private_network() -> Iterator[tuple[int, ...]]:
    """In a new network namespace that forwards; gives the numbers of both veth interfaces."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(_NEW_NETWORK):
        os.close(home)
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    try:
        for family in ("ipv4", "ipv6"):
            Path(f"/proc/sys/net/{family}/conf/all/forwarding").write_text("1")
        for command in _COMMANDS.strip().splitlines():
            subprocess.run(["ip", *command.split()], check=True, timeout=20)
        yield tuple(socket.if_nametoindex(name) for name in ("k2a", "k2b"))
    finally:
        if libc.setns(home, _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "setns back")
        os.close(home)
