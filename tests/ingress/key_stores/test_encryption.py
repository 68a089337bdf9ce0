"""Where the keys come from that secrets are encrypted with."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from ingress.key_stores import encryption_keys
from worker.settings import Settings, SettingsError


def given(database_url: str, keys: str | None = None) -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        database_url=SecretStr(database_url),
        encryption_keys=None if keys is None else SecretStr(keys),
    )


@pytest.fixture
def beside(tmp_path: Path) -> Settings:
    """A SQLite file and no key in the settings."""
    return given(f"sqlite:///{tmp_path / 'payhook.db'}")


def test_the_setting_gives_several_keys_in_order() -> None:
    """Commas between them, white space is let pass; with a setting no file is made."""
    first, second = Fernet.generate_key(), Fernet.generate_key()

    keys = encryption_keys(given("sqlite:///nowhere/x.db", f"{first.decode()} , {second.decode()}"), create=True)

    assert [keys[0].decrypt(Fernet(first).encrypt(b"1")), keys[1].decrypt(Fernet(second).encrypt(b"2"))] == [b"1", b"2"]


@pytest.mark.parametrize("text", ["", "canary", "ä", ",", "A" * 43 + "=,canary"])
def test_what_is_no_key_is_not_shown(text: str) -> None:
    """The message says which one is wrong and how to make one."""
    with pytest.raises(SettingsError, match=r"ENCRYPTION_KEYS: key \d is not a Fernet key; .*generate_key") as failure:
        encryption_keys(given("sqlite:///x.db", text), create=True)

    assert "canary" not in str(failure.value)


def test_without_a_database_file_the_setting_is_needed() -> None:
    """A key beside a database server would be on no other machine; the message says how to make one."""
    with pytest.raises(SettingsError, match=r"ENCRYPTION_KEYS is missing; .*generate_key"):
        encryption_keys(given("postgresql+psycopg://host/name"), create=True)


def test_a_key_file_is_made_when_asked(beside: Settings, tmp_path: Path) -> None:
    """Only then, for its owner only, and once: afterwards everybody reads the same key."""
    with pytest.raises(SettingsError, match="payhook keys add"):
        encryption_keys(beside, create=False)

    made = encryption_keys(beside, create=True)

    file = tmp_path / "payhook.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["payhook.key"]
    for create in (True, False):
        assert encryption_keys(beside, create)[0].decrypt(made[0].encrypt(b"same")) == b"same"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_key_file_open_to_others_is_refused(beside: Settings, tmp_path: Path, mode: int) -> None:
    """The message has the command that mends it."""
    encryption_keys(beside, create=True)
    (tmp_path / "payhook.key").chmod(mode)

    with pytest.raises(SettingsError, match="chmod 600"):
        encryption_keys(beside, create=True)


def test_two_processes_at_once_end_with_one_key(beside: Settings, tmp_path: Path) -> None:
    """Whoever loses the race uses the winner's key."""
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: encryption_keys(beside, create=True)[0], range(16)))

    token = made[0].encrypt(b"same")
    assert [key.decrypt(token) for key in made] == [b"same"] * 16
    assert [path.name for path in tmp_path.iterdir()] == ["payhook.key"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The setting is offered instead."""
    with pytest.raises(SettingsError, match=r"cannot be made .*set PAYHOOK_ENCRYPTION_KEYS"):
        encryption_keys(given(f"sqlite:///{tmp_path}/missing/payhook.db"), create=True)
