"""Who may own, read and write files of keys, asked as the user who serves, who is not root."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from ingress.key_stores import FileKeyStore

ROOT, SERVING, STRANGER, GROUP = 0, 41_001, 41_002, 41_100

as_root = pytest.mark.skipif(os.geteuid() != ROOT, reason="only root can give files away and become another user")


class Case(NamedTuple):
    """Who has a file or folder, and what others may do with it."""

    owner: int
    mode: int


def told_to(user: int, path: Path) -> str:
    """What a process of that user, member of one group, is told that loads the keys of a path."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(GROUP)
            os.setuid(user)
            told = " ".join(FileKeyStore(path).load()) or "nothing"
        except BaseException as error:
            told = str(error)
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        told = answer.read().decode()
    os.waitpid(child, 0)
    return told


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder of root's in which every user can look things up; pytest's own are closed to others."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def give(path: Path, case: Case) -> None:
    os.chown(path, case.owner, GROUP)
    path.chmod(case.mode)


OPEN, WRITABLE, UNREADABLE, USED = "chmod 600", "chmod go-w", "PermissionError", "a"

JSON_FILES = {
    Case(SERVING, 0o600): USED,
    Case(SERVING, 0o400): USED,
    Case(SERVING, 0o700): USED,
    **{Case(SERVING, 0o600 | extra): OPEN for extra in (0o001, 0o002, 0o004, 0o010, 0o020, 0o040, 0o044, 0o066, 0o077)},
    Case(SERVING, 0o000): UNREADABLE,
    Case(SERVING, 0o077): UNREADABLE,
    Case(STRANGER, 0o600): UNREADABLE,
    Case(ROOT, 0o600): UNREADABLE,
    Case(ROOT, 0o640): OPEN,
    Case(STRANGER, 0o644): OPEN,
    Case(STRANGER, 0o666): OPEN,
}


@as_root
@pytest.mark.parametrize(("case", "told"), JSON_FILES.items(), ids=lambda case: str(case))
def test_a_json_file_is_its_owners_alone(reachable: Path, case: Case, told: str) -> None:
    """Whoever else could read or write it, in whatever way, makes it useless."""
    path = reachable / "keys.json"
    path.write_text(json.dumps({"a": "canary"}))
    give(path, case)

    assert told in told_to(SERVING, path)
    assert "canary" not in told_to(SERVING, path)


FOLDER = Case(ROOT, 0o755)
LIKE_TMP = Case(ROOT, 0o1777)
SECRET = Case(ROOT, 0o644)

DIRECTORIES: list[tuple[Case, Case, str]] = [
    (FOLDER, SECRET, USED),
    (FOLDER, Case(ROOT, 0o444), USED),
    (FOLDER, Case(ROOT, 0o440), USED),
    (FOLDER, Case(SERVING, 0o400), USED),
    (Case(SERVING, 0o700), Case(SERVING, 0o600), USED),
    (Case(SERVING, 0o2750), Case(SERVING, 0o640), USED),
    (FOLDER, Case(STRANGER, 0o644), USED),  # nobody but root can have put it there, as Compose does
    *[(FOLDER, Case(ROOT, 0o444 | extra), WRITABLE) for extra in (0o002, 0o020, 0o022)],
    (FOLDER, Case(SERVING, 0o620), WRITABLE),
    (FOLDER, Case(ROOT, 0o600), UNREADABLE),
    (Case(ROOT, 0o700), SECRET, UNREADABLE),
    *[(Case(ROOT, mode), SECRET, WRITABLE) for mode in (0o777, 0o757, 0o775, 0o2775)],
    (LIKE_TMP, SECRET, USED),  # as Docker's and Kubernetes' mounts are
    (LIKE_TMP, Case(SERVING, 0o400), USED),
    (LIKE_TMP, Case(STRANGER, 0o644), f"belongs to user {STRANGER}"),
    (Case(STRANGER, 0o1777), Case(STRANGER, 0o644), USED),  # the folder is theirs, and so named by the settings
]


@as_root
@pytest.mark.parametrize(("folder", "file", "told"), DIRECTORIES, ids=lambda case: str(case))
def test_a_directorys_files_may_be_read_by_others_and_not_written(
    reachable: Path, folder: Case, file: Case, told: str
) -> None:
    """Nor may others be able to replace them, or to put theirs beside them."""
    path = reachable / "keys"
    path.mkdir()
    (path / "a").write_text("canary")
    give(path / "a", file)
    give(path, folder)

    assert told in told_to(SERVING, path)
    assert "canary" not in told_to(SERVING, path)


@as_root
@pytest.mark.parametrize(
    ("owner", "told"), [(ROOT, USED), (SERVING, USED), (STRANGER, f"leads to a folder of user {STRANGER}")]
)
def test_a_stranger_cannot_lead_to_a_folder_of_theirs(reachable: Path, owner: int, told: str) -> None:
    """In a folder like /tmp anybody could make the link that Kubernetes makes."""
    mount = reachable / "mount"
    (mount / "..v1").mkdir(parents=True)
    (mount / "..v1" / "a").write_text("canary")
    (mount / "..data").symlink_to("..v1")
    give(mount / "..v1" / "a", Case(owner, 0o644))
    give(mount / "..v1", Case(owner, 0o755))
    give(mount, LIKE_TMP)

    assert told in told_to(SERVING, mount)


@as_root
@pytest.mark.parametrize("name", ["b", "..data"])
@pytest.mark.parametrize(("owner", "told"), [(ROOT, USED), (STRANGER, f"belongs to user {STRANGER}")])
def test_a_stranger_cannot_lead_to_what_is_roots(reachable: Path, name: str, owner: int, told: str) -> None:
    """The content of many of root's files is known to everybody, and what everybody knows is no secret."""
    mount, elsewhere = reachable / "mount", reachable / "elsewhere"
    for folder in (mount, elsewhere):
        folder.mkdir()
        (folder / "a").write_text("known")
        give(folder / "a", SECRET)
        give(folder, LIKE_TMP if folder == mount else FOLDER)
    (mount / name).symlink_to("../elsewhere" if name == "..data" else "../elsewhere/a")
    os.lchown(mount / name, owner, GROUP)

    assert told in told_to(SERVING, mount)


def test_modes_are_looked_at_whoever_asks(tmp_path: Path) -> None:
    """Root could read everything, and is as careful; this needs no other user."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"a": "canary"}))
    found: dict[int, str] = {}
    load: Callable[[], object] = FileKeyStore(path).load
    for mode in (0o600, 0o640, 0o604, 0o620, 0o602, 0o666):
        path.chmod(mode)
        try:
            found[mode] = " ".join(load())  # type: ignore[arg-type]
        except Exception as error:
            found[mode] = str(error)

    assert found.pop(0o600) == "a"
    assert [mode for mode, told in found.items() if f"chmod 600 {path}" not in told] == []
