"""Read a small file of secrets, unless another user of the machine could have written it."""

import os
import stat
from collections.abc import Collection
from pathlib import Path

from ingress.key_stores.key_store import MAX_FILE_BYTES, KeyStoreUnavailable

#: What others may not have: nothing at all, or the right to write.
PRIVATE, WRITE = 0o077, 0o022


def read_trusted(path: Path, *, closed: int, folder: int | None = None, owners: Collection[int] | None = None) -> bytes:
    """The content of a file.

    Args:
        path: where it is, for the messages too.
        closed: the permissions that group and others may not have.
        folder: an open directory, from which it is opened by its name alone.
        owners: the users it may belong to; any when left out.

    Raises:
        KeyStoreUnavailable: it cannot be read, or not be trusted; the message has the command that mends it.
    """
    name = path if folder is None else path.name
    try:
        # Non-blocking: opening a pipe that nobody writes to would wait for ever.
        with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
            status = os.fstat(file.fileno())  # of what was opened: a path can be swapped between two looks
            _refuse_untrusted(path, status, closed, owners)
            content = file.read(MAX_FILE_BYTES + 1)
            later = os.fstat(file.fileno())
    except OSError as error:
        raise KeyStoreUnavailable(f"{path} cannot be read ({type(error).__name__})") from None
    if len(content) > MAX_FILE_BYTES:
        raise KeyStoreUnavailable(f"{path} is over {MAX_FILE_BYTES // 1024} KiB: not a file of keys")
    if (later.st_mtime_ns, later.st_size) != (status.st_mtime_ns, len(content)):
        raise KeyStoreUnavailable(f"{path} was written to while it was read")
    return content


def _refuse_untrusted(path: Path, status: os.stat_result, closed: int, owners: Collection[int] | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyStoreUnavailable(f"{path} is not a regular file")
    if closed == PRIVATE and status.st_mode & PRIVATE:
        raise KeyStoreUnavailable(f"{path} is open to other users of this machine; run: chmod 600 {path}")
    if status.st_mode & closed:
        raise KeyStoreUnavailable(f"{path} can be written by other users of this machine; run: chmod go-w {path}")
    if owners is not None and status.st_uid not in owners:
        raise KeyStoreUnavailable(f"{path} belongs to user {status.st_uid}, who may not put keys here")
