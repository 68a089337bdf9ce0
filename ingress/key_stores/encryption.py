"""The keys that webhook secrets are encrypted with at rest, kept apart from the database that holds the secrets."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet
from sqlalchemy.engine import make_url

from worker.settings import PREFIX, Settings, SettingsError, read_secret_file

NAME = f"{PREFIX}ENCRYPTION_KEYS"
KEY_FILE = "payhook.key"
HOW_TO_MAKE_ONE = 'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'


def encryption_keys(settings: Settings, create: bool) -> list[Fernet]:
    """The first encrypts, all decrypt.

    Args:
        settings: where they are: the setting, or ``payhook.key`` beside a SQLite database.
        create: make that file when it is missing.

    Raises:
        SettingsError: there are none, or they are not keys; the message says how to make one.
    """
    if settings.encryption_keys is not None:
        return _keys_of(NAME, settings.encryption_keys.get_secret_value())
    path = _file_beside_database(settings)
    if path is None:
        raise SettingsError(f"{NAME} is missing; make a key with: {HOW_TO_MAKE_ONE}")
    if create and not os.path.exists(path):  # unlike Path.exists, no error when it may not be looked at
        _make(path)
    return _keys_of_file(path)


def _file_beside_database(settings: Settings) -> Path | None:
    url = make_url(settings.database_url.get_secret_value())
    name = url.database
    if url.get_backend_name() != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name).parent / KEY_FILE


def _keys_of_file(path: Path) -> list[Fernet]:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise SettingsError(
            f"{NAME} is missing and there is no {path}; `payhook keys add` and `payhook up` make that file. "
            "If secrets are stored already, bring back the file they were encrypted with"
        ) from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({type(error).__name__})") from None
    if mode & 0o077:
        raise SettingsError(f"{path} is open to other users of this machine; run: chmod 600 {path}")
    return _keys_of(str(path), read_secret_file("the encryption key", path))


def _keys_of(name: str, given: str) -> list[Fernet]:
    keys = []
    for number, text in enumerate(given.split(","), start=1):
        try:
            keys.append(Fernet(text.strip()))
        except ValueError:
            raise SettingsError(f"{name}: key {number} is not a Fernet key; make one with: {HOW_TO_MAKE_ONE}") from None
    return keys


def _make(path: Path) -> None:
    """Two processes at once end with one key, and no reader sees half of one: it gets its name when it is whole."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # the other process was first: its key it is
            os.link(temporary, path)
        temporary.unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise SettingsError(f"{path} cannot be made ({type(error).__name__}); set {NAME} instead") from None
