"""Keys in a directory: what is read, what is refused, and that what is read is of one moment."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from ingress.key_stores import FileKeyStore, KeyStoreUnavailable, directory, trusted_file
from ingress.key_stores.conformance import key

#: As many files as it takes for a swap to fall between two of them.
FILES = 12


class Mount:
    """A secret as Kubernetes mounts it: names are links through ``..data``; it is swapped, then the old is deleted."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir()
        path.chmod(0o1777)
        self.update(0, FILES)
        for name in os.listdir(path / "..data"):
            (path / name).symlink_to(f"..data/{name}")

    def update(self, version: int, files: int) -> None:
        new, old = self.path / f"..v{version}", os.path.realpath(self.path / "..data")
        new.mkdir()
        for number in range(files):
            (new / f"key-{number}").write_text(f"version {version}\n")
        (self.path / "..new").symlink_to(new.name)
        (self.path / "..new").replace(self.path / "..data")
        if os.path.basename(old) != "..data":
            shutil.rmtree(old)


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    """A mounted secret with a dozen keys."""
    return Mount(tmp_path / "mount")


def test_what_kubernetes_mounts_is_read(mount: Mount) -> None:
    """Though its folder is open to everybody, like /tmp; an update is seen, hidden names and folders are no keys."""
    store = FileKeyStore(mount.path)
    before = store.load()

    mount.update(1, 2)
    (mount.path / "..data" / "folder").mkdir()

    assert before == {f"key-{number}": key("version 0") for number in range(FILES)}
    assert store.load() == {"key-0": key("version 1"), "key-1": key("version 1")}


def test_an_update_under_load_never_shows_half_a_set(mount: Mount) -> None:
    """Every load of several readers is the whole of one version, or refused, as fast as versions follow each other."""
    store, done = FileKeyStore(mount.path), threading.Event()
    seen: list[set[str]] = []
    sizes: set[int] = set()

    def read() -> None:
        while not done.is_set():
            try:
                keys = store.load()
            except KeyStoreUnavailable:
                continue
            seen.append({key.secret.get_secret_value() for key in keys.values()})
            sizes.add(len(keys))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(1, 150):
        mount.update(version, FILES)
    done.set()
    for thread in threads:
        thread.join()

    assert len(seen) > 30
    assert sizes == {FILES}
    assert {len(secrets) for secrets in seen} == {1}
    assert len(set.union(*seen)) > 3


def test_an_update_between_two_files_is_read_again(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the old files are still there or deleted already; what is given is the new set."""
    read, reads = trusted_file.read_trusted, []

    def updating(*arguments: object, **given: object) -> bytes:
        reads.append(1)
        if len(reads) == 5:
            mount.update(1, 3)
        return read(*arguments, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(directory, "read_trusted", updating)

    assert FileKeyStore(mount.path).load() == {f"key-{number}": key("version 1") for number in range(3)}


def test_a_directory_that_never_stands_still_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ends after a few tries, as where an update was left in the middle; the keys known before stay."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "..data").symlink_to("..gone")
    with pytest.raises(KeyStoreUnavailable, match=r"\.\.data leads nowhere"):
        FileKeyStore(tmp_path / "broken").load()
    (tmp_path / "a").write_text("x")
    stamps = iter(range(1000))
    monkeypatch.setattr(directory, "_stamp", lambda _: next(stamps))

    with pytest.raises(KeyStoreUnavailable, match="changed each time"):
        FileKeyStore(tmp_path).load()


@pytest.mark.parametrize("name", ["a key", "a,b", "ä", "x" * 129])
def test_a_name_that_is_no_key_id_is_told(tmp_path: Path, name: str) -> None:
    """Its name is in the message, since a name is no secret there."""
    (tmp_path / name).write_text("canary")

    with pytest.raises(KeyStoreUnavailable, match=name) as failure:
        FileKeyStore(tmp_path).load()

    assert "canary" not in str(failure.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"canary\xff", b"canary\ny", b" canary", b"canary" * 11_000])
def test_a_wrong_file_is_told(tmp_path: Path, content: bytes) -> None:
    """No key of a directory is used in which one is empty, torn, too large or no text."""
    (tmp_path / "good").write_text("x")
    (tmp_path / "wrong").write_bytes(content)

    with pytest.raises(KeyStoreUnavailable, match=str(tmp_path / "wrong")) as failure:
        FileKeyStore(tmp_path).load()

    assert "canary" not in str(failure.value)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe, which would keep the reader waiting for ever, and a link to nowhere."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KeyStoreUnavailable, match="pipe is not a regular file"):
        FileKeyStore(tmp_path).load()

    (tmp_path / "pipe").unlink()
    (tmp_path / "link").symlink_to("nowhere")

    with pytest.raises(KeyStoreUnavailable, match="link cannot be read"):
        FileKeyStore(tmp_path).load()


def test_a_directory_of_other_things_is_not_read_into_memory(tmp_path: Path) -> None:
    """A wrong path ends at 64 KiB, in however many files."""
    for number in range(20):
        (tmp_path / f"log-{number:02}").write_text("x" * 4000)

    with pytest.raises(KeyStoreUnavailable, match="over 64 KiB"):
        FileKeyStore(tmp_path).load()


def test_a_file_written_to_while_it_is_read_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first half of a secret is a secret too, and none of ours."""
    path = tmp_path / "a"
    path.write_text("half a")
    look = trusted_file._refuse_untrusted

    def writing(*arguments: object) -> None:
        look(*arguments)  # type: ignore[arg-type]
        monkeypatch.undo()
        path.write_text("half a secret")

    monkeypatch.setattr(trusted_file, "_refuse_untrusted", writing)

    with pytest.raises(KeyStoreUnavailable, match="written to while it was read"):
        FileKeyStore(tmp_path).load()
    assert FileKeyStore(tmp_path).load() == {"a": key("half a secret")}
