"""How an answer's bytes go out: whole, or as a bad network and a bad server would let them."""

import socket
import struct
import threading

from sandbox import callers
from sandbox.wire import Answer, to_bytes

NO_LINGER = struct.pack("ii", 1, 0)  # close() then sends RST, not FIN


def send(connection: socket.socket, answer: Answer, *, closes: bool, leaving: threading.Event) -> bool:
    """Send the answer as it says itself.

    Args:
        leaving: set when the server ends, so that nothing hangs longer than it.

    Returns:
        Whether the connection can be used for the next request.
    """
    data = to_bytes(answer, closes=closes)
    if answer.kills:
        connection.sendall(data[: len(data) // 2])
        callers.kill(connection.getpeername()[:2])
        return False
    if answer.transport == "whole":
        connection.sendall(data)
        return not closes
    if answer.transport == "hang":
        leaving.wait(answer.seconds)
    elif answer.transport == "truncate":
        connection.sendall(data[: answer.at_byte])
    elif answer.transport == "drip":
        _drip(connection, data, answer.seconds, leaving)
    else:  # reset, and what a refused connection began with
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        connection.close()
    return False


def _drip(connection: socket.socket, data: bytes, seconds: float, leaving: threading.Event) -> None:
    for position in range(len(data)):
        connection.sendall(data[position : position + 1])
        if leaving.wait(seconds):
            return
