"""Finds ports for what the tests start."""

import os
import random
import socket

# Below 32768, where the kernel starts to take ports for outgoing connections: a client that keeps calling a killed
# server's port up there can be given that very port as its own end and connects to itself; the server cannot come back.
PORTS = range(20000, 32000)

# Processes that share the tests of a run share the range: what one has found free and not yet taken, no other gets.
_number, _count = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
_share = PORTS[int(_number.removeprefix("gw")) :: int(_count)]

# Not `random`'s own generator: Hypothesis seeds it, and two test runs side by side would then draw the same ports.
_chance = random.SystemRandom()
_handed_out: set[int] = set()


def free_port() -> int:
    """A port of the loopback interface that nothing listens on and that this process has not been given before."""
    for port in _chance.sample(_share, len(_share)):
        if port not in _handed_out and _is_free(port):
            _handed_out.add(port)
            return port
    raise RuntimeError(f"no free port between {PORTS.start} and {PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
