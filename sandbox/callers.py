"""Who is at the other end of a connection, and how to kill it: only there is the exact moment of an effect known."""

import contextlib
import logging
import os
import time
from typing import Literal

import psutil

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.002  # between two looks whether it is gone

#: The kernel's list of sockets is read in pieces: while others come and go, one look may miss one that is there.
LOOKS = 3

Moment = Literal["before_effect", "after_effect", "mid_answer"]
Address = tuple[str, int]


def kill(caller: Address) -> bool:
    """SIGKILL the process on this machine that holds the connection's other end, and wait until it is gone.

    Returns:
        Whether there was one; the sandbox does not kill the process it runs in itself.
    """
    pid = process_at(caller)
    if pid is None or pid == os.getpid():
        log.warning("nobody to kill at %s:%d: no other process of this machine holds it", *caller)
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.kill()
        # Not wait(): were it our own child, that would take its exit status from whoever started it.
        while process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(LOOK_SECONDS)
    return True


def process_at(address: Address) -> int | None:
    """The process whose socket has this address; of several that share it, the oldest: the others have inherited it."""
    for _ in range(LOOKS):
        holders = {
            connection.pid
            for connection in psutil.net_connections(kind="tcp")
            if connection.laddr == address and connection.pid is not None
        }
        if holders:
            return min(holders, key=lambda pid: psutil.Process(pid).create_time())
    return None
