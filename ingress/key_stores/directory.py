"""Keys in a directory with one file for each, as Kubernetes and Docker mount secrets: all of one moment, or none."""

import os
import stat
from collections.abc import Collection
from pathlib import Path

from ingress.key_stores.key_store import MAX_FILE_BYTES, KeyStoreUnavailable, WebhookKey, new_key
from ingress.key_stores.trusted_file import WRITE, read_trusted

#: The link through which Kubernetes shows a mount's content: an update swaps it, then deletes what it led to.
KUBERNETES_LINK = "..data"

#: How often a directory that changes meanwhile is read: one that never stands still is not read at all.
TRIES = 10


def keys_of_directory(path: Path) -> dict[str, WebhookKey]:
    """Every file's content by its name, none of them older than another.

    Raises:
        KeyStoreUnavailable: a file is no key, or others could have written it.
    """
    for _ in range(TRIES):
        try:
            keys = _keys_of_one_moment(path)
        except FileNotFoundError:  # between the link's reading and its following
            keys = None
        except OSError as error:
            raise KeyStoreUnavailable(f"{path} cannot be read ({type(error).__name__})") from None
        if keys is not None:
            return keys
    raise KeyStoreUnavailable(f"{path} changed each time it was read, or its {KUBERNETES_LINK} leads nowhere")


def _keys_of_one_moment(path: Path) -> dict[str, WebhookKey] | None:
    """None when it changed meanwhile; then what was found wrong may only have been half an update."""
    folder = os.open(_shown(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        before, problem = _stamp(os.fstat(folder)), None
        keys: dict[str, WebhookKey] = {}
        try:
            keys = _keys_in(path, folder, _owners(path, folder))
        except KeyStoreUnavailable as error:
            problem = error
        if _stamp(os.stat(_shown(path))) != before:
            return None
    finally:
        os.close(folder)
    if problem is not None:
        raise problem
    return keys


def _shown(path: Path) -> Path:
    linked = path / KUBERNETES_LINK
    return linked if linked.is_symlink() else path


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _owners(path: Path, folder: int) -> Collection[int] | None:
    """Who may have put files there; None where nobody but its owner can.

    Kubernetes and Docker mount one that is open to everybody, like /tmp: there a file's owner has to be looked at.
    """
    top, shown = os.stat(path), os.fstat(folder)
    if any(status.st_mode & WRITE and not status.st_mode & stat.S_ISVTX for status in (top, shown)):
        raise KeyStoreUnavailable(f"others could replace the files in {path}; run: chmod go-w {path}")
    if not top.st_mode & WRITE:
        return None
    owners = {0, os.geteuid(), top.st_uid}
    if shown.st_uid not in owners:
        raise KeyStoreUnavailable(f"{path}/{KUBERNETES_LINK} leads to a folder of user {shown.st_uid}")
    if _shown(path) != path:
        _refuse_strangers_link(_shown(path), os.lstat(_shown(path)).st_uid, owners)
    return owners


def _refuse_strangers_link(path: Path, owner: int, owners: Collection[int]) -> None:
    # What it leads to may well be root's: a file whose content everybody knows would be a key that everybody has.
    if owner not in owners:
        raise KeyStoreUnavailable(f"{path} belongs to user {owner}, who may not put keys here")


def _keys_in(path: Path, folder: int, owners: Collection[int] | None) -> dict[str, WebhookKey]:
    keys, size = {}, 0
    for name in sorted(os.listdir(folder)):
        if name.startswith(".") or _is_folder(name, folder):
            continue
        if owners is not None:
            _refuse_strangers_link(path / name, os.lstat(name, dir_fd=folder).st_uid, owners)
        # Who may read them is not asked: Kubernetes mounts secrets readable to all of the container.
        content = read_trusted(path / name, closed=WRITE, folder=folder, owners=owners)
        size += len(content)
        if size > MAX_FILE_BYTES:
            raise KeyStoreUnavailable(f"{path} holds over {MAX_FILE_BYTES // 1024} KiB: not a directory of keys")
        try:
            keys[name] = new_key(name, content.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError:
            raise KeyStoreUnavailable(f"{path / name} is not UTF-8 text") from None
        except ValueError as error:
            raise KeyStoreUnavailable(f"{path / name} is no key: {error}") from None
    return keys


def _is_folder(name: str, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder).st_mode)
    except OSError:  # a link to nowhere: reading it says so
        return False
