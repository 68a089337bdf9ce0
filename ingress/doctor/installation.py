"""What is examined: the settings, and the parts they name, as far as they can be opened."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from ingress.doctor.lines import NotAsked, Once
from ingress.key_stores import WebhookKey, kind_of_store, open_key_store
from worker import reports
from worker.database import Database, DatabaseUnavailable
from worker.gateways import open_gateways
from worker.gateways.gateway import Contact, Gateway
from worker.reports import Standing
from worker.settings import PREFIX, Merchant, Settings, SettingsError
from worker.settings.inventory import Inventory, address

#: One wait for the database or the platform; shorter than a line may take, so that the line can tell of it.
WAIT_SECONDS = 2.0

#: As many lines as may read at a time.
CONNECTIONS = 8


class Installation:
    """The parts of an installation, each opened when the first line asks for it.

    Args:
        inventory: the settings, with what is wrong with them.
    """

    def __init__(self, inventory: Inventory):
        self.inventory = inventory
        self.settings: Settings = inventory.settings
        url = self.settings.database_url.get_secret_value()
        self.database = Database(url, connections=CONNECTIONS, seconds=WAIT_SECONDS, revision=None)
        self.database_address = address(url)
        self.broker_address = address(self.settings.broker_url.get_secret_value())
        self.standing: Once[Standing] = Once(self._standing)
        self.keys: Once[Mapping[str, WebhookKey]] = Once(self._keys)
        self.gateways: Once[Mapping[str, Gateway]] = Once(self._gateways)
        self._contacts = {merchant_id: Once(partial(self._contact, merchant_id)) for merchant_id in self.merchants}

    @cached_property
    def merchants(self) -> Mapping[str, Merchant]:
        """Our merchants; none when they cannot be read, which the line of the settings tells."""
        try:
            return self.settings.merchants
        except SettingsError:
            return {}

    @property
    def sqlite_file(self) -> Path | None:
        """The file of a SQLite database."""
        url = make_url(self.settings.database_url.get_secret_value())
        if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith("file:"):
            return None
        return Path(url.database).absolute()

    def insist_on(self, field: str) -> None:
        """A line must not judge by the default of a setting whose value is wrong.

        Raises:
            NotAsked: it is wrong.
        """
        if field in self.inventory.wrong:
            raise NotAsked(f"{PREFIX}{field.upper()} is wrong", "settings")

    def insist_on_file(self) -> None:
        """To open a SQLite file that is not there would make one.

        Raises:
            NotAsked: it is not there.
        """
        self.insist_on("database_url")
        if self.sqlite_file is not None and not self.sqlite_file.exists():
            raise NotAsked(f"there is no file {self.sqlite_file}", "database")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """The database, for the lines that need it to be well.

        Raises:
            NotAsked: it does not answer, or has not the schema.
        """
        self.insist_on_file()
        try:
            with self.database.reading() as connection:
                yield connection
        except (DatabaseUnavailable, DBAPIError):
            raise NotAsked("the database cannot be read", "database", "revision") from None

    def contact(self, merchant_id: str) -> Contact:
        """How the platform answers for a merchant; asked once.

        Raises:
            NotAsked: its gateway cannot be opened.
        """
        return self._contacts[merchant_id]()

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def _standing(self) -> Standing:
        with self.reading() as connection:
            return reports.standing(connection, notice_seconds=self.settings.expiry_notice_seconds)

    def _keys(self) -> Mapping[str, WebhookKey]:
        self.insist_on("key_store")
        if kind_of_store(self.settings)[0] == "database":
            self.insist_on_file()
        return open_key_store(self.settings, self.database).load()

    def _gateways(self) -> Mapping[str, Gateway]:
        try:
            return open_gateways(self.settings)
        except SettingsError:
            raise NotAsked("the platform's settings are wrong", "settings") from None

    def _contact(self, merchant_id: str) -> Contact:
        for field in ("api_endpoint", "api_key_id", "api_secret"):
            self.insist_on(field)
        return self.gateways()[merchant_id].contact(seconds=WAIT_SECONDS)
