"""Every knob there is, its default and the reason for it; read once, at the entry of a process."""

import difflib
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as UnreadableValue
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from worker.settings.merchants import Merchant, merchants_of_file, single_merchant
from worker.settings.sources import ENV_FILE, given
from worker.settings.values import (
    PREFIX,
    TEST_ENDPOINT,
    Endpoint,
    Policy,
    SettingsError,
    endpoint,
    read_secret_file,
    told,
)

#: Values that may carry a password or a secret: each can also be given as a file, with ``_FILE`` after its name.
SECRETS = ("database_url", "broker_url", "result_backend", "webhook_keys", "encryption_keys", "api_secret")


class Settings(BaseSettings):
    """What the environment (and ``.env``) says, with the prefix ``PAYHOOK_``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        extra="ignore",  # unknown names are refused by `load_settings`, with a suggestion
        frozen=True,
        hide_input_in_errors=True,  # what was given may be a secret
    )

    database_url: SecretStr = SecretStr("sqlite:///payhook.db")
    broker_url: SecretStr = SecretStr("memory://")
    result_backend: SecretStr | None = None
    key_store: str = "database:"
    webhook_keys: SecretStr | None = None
    encryption_keys: SecretStr | None = None
    merchant_id: str | None = None
    api_key_id: str | None = None
    api_secret: SecretStr | None = None
    api_endpoint: Endpoint = TEST_ENDPOINT
    sdk_properties: Path | None = None
    merchants_file: Path | None = None
    policy: Policy = "manual"
    log_format: Literal["console", "json"] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    #: How long a claim holds: longer than everything done under it, so that only a dead process loses one.
    lease_seconds: float = Field(60, gt=0)
    #: One call to the platform, by the wall clock. The SDK's own time-out is per read: a slow drip outlasts it.
    call_seconds: float = Field(15, gt=0)
    #: Everything under one claim, by a monotonic clock; with the lease above it, a paused process notices in time.
    claim_seconds: float = Field(40, gt=0)
    #: No payment is fetched twice within this: a burst of events costs two fetches.
    gap_seconds: float = Field(2, gt=0)
    #: How often every worker looks for rows that are due.
    sweep_seconds: float = Field(5, gt=0)
    #: How many rows of a table one sweep rings for.
    sweep_limit: int = Field(300, gt=0)
    #: An event is left to its ring for this long before the sweep rings for it too.
    ring_seconds: float = Field(5, gt=0)
    #: The longest wait between tries of a payment that could not be fetched: G6 promises 60 s after the faults stop.
    retry_max_seconds: float = Field(45, gt=0)
    #: Platform calls at a time in one process.
    platform_threads: int = Field(16, gt=0, le=256)
    #: How long an answer to a webhook may wait for the database before it is a 503 (3 s is promised).
    answer_seconds: float = Field(2, gt=0)
    #: How often webhook keys are read again; a removed key stops verifying within this.
    key_refresh_seconds: float = Field(5, gt=0)
    #: Looks at a payment with something under way: from the shortest, doubling with its age, to the longest.
    poll_moving_seconds: tuple[float, float] = (15, 900)
    #: Looks at an authorised payment, and at a captured one in its first thirty days (G6: 1 h and 24 h).
    poll_authorised_seconds: float = Field(3600, gt=0)
    poll_captured_seconds: float = Field(86400, gt=0)
    #: Requests a second to the platform for each merchant, all workers together: 300,000 authorised payments an hour
    #: need 250. Halved for a minute whenever the platform asks for fewer.
    budget_per_second: float = Field(300, gt=0)
    #: A merchant whose platform is away, or refuses us, is not asked: from the first wait doubling to the longest.
    circuit_seconds: tuple[float, float] = (2, 30)
    #: How long an authorisation lasts, by payment product id; the platform's answers do not tell it.
    authorisation_days: dict[str, float] = {"default": 7}
    #: An authorisation that ends within this is reported.
    expiry_notice_seconds: float = Field(172800, gt=0)
    #: A merchant's webhooks are missed after twice their longest usual pause, no sooner and no later than these.
    webhook_gap_seconds: tuple[float, float] = (900, 129600)
    #: Raw bodies of events hold personal data: erased after this; their hash and facts stay.
    keep_bodies_days: float = Field(90, gt=0)
    #: Finished rows are deleted after this. A captured delivery can be sent again for as long as its key lives, and
    #: only the row tells that it was here before: never less than 400 days.
    keep_rows_days: float = Field(400, ge=400)
    #: How many payments at rest are compared with the platform, and how often.
    drift_sample: int = Field(200, ge=0)
    drift_seconds: float = Field(7 * 86400, gt=0)
    #: Where a worker's metrics can be read; none without a port. The ingress has its own, under /metrics.
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=0, le=65535)
    #: How long the platform is trusted to honour an idempotence key: it says 24 hours, and a request takes its time.
    key_seconds: float = Field(23 * 3600, gt=0)
    #: Longer than the platform's latest effect and the lag of its lists: two looks so far apart tell what was not done.
    settling_seconds: float = Field(3600, gt=0)
    #: A request is promised by a record of the payment that is no older than this.
    fresh_seconds: float = Field(60, gt=0)
    #: What the SDK would log of its calls (obfuscated) goes to the logger ``payhook.platform`` when this is on.
    platform_log: bool = False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _SecretFiles(settings_cls), env_settings, dotenv_settings

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: SecretStr) -> SecretStr:
        try:
            url = make_url(value.get_secret_value())
        except ArgumentError:
            raise ValueError("not a database URL; for example postgresql+psycopg://user@host/name") from None
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            raise ValueError("a database of another kind; use sqlite:///FILE or postgresql+psycopg://…")
        if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
            raise ValueError("a database in memory is lost with its process; use sqlite:///FILE")
        return value

    @field_validator("poll_moving_seconds", "circuit_seconds", "webhook_gap_seconds")
    @classmethod
    def _shorter_to_longer(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("the shortest wait, more than 0, then the longest; for example [15, 900]")
        return value

    @field_validator("authorisation_days")
    @classmethod
    def _days_by_product(cls, value: dict[str, float]) -> dict[str, float]:
        by_product = all(name == "default" or (name.isascii() and name.isdigit()) for name in value)
        if "default" not in value or not by_product or min(value.values()) <= 0:
            raise ValueError('days by payment product id, and a default; for example {"default": 7, "840": 29}')
        return value

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value().split("://")[0] not in ("memory", "amqp", "amqps", "redis", "rediss"):
            # kombu's filesystem and SQLAlchemy transports lose the tasks a killed worker was running.
            raise ValueError("a broker of another kind; use amqp://…, redis://… or memory:// (one process)")
        return value

    @model_validator(mode="after")
    def _lease_outlasts_the_work(self) -> "Settings":
        if not self.call_seconds <= self.claim_seconds < self.lease_seconds:
            raise ValueError(
                "CALL_SECONDS ≤ CLAIM_SECONDS < LEASE_SECONDS must hold, or two workers may hold one payment"
            )
        return self

    @property
    def database_kind(self) -> str:
        """``postgresql`` or ``sqlite``."""
        return make_url(self.database_url.get_secret_value()).get_backend_name()

    @property
    def embedded_broker(self) -> bool:
        """Whether messages never leave the process."""
        return self.broker_url.get_secret_value().startswith("memory:")

    @property
    def names_merchants(self) -> bool:
        """Whether any merchant is given; an ingress may do without."""
        return self.merchants_file is not None or bool(self.merchant_id or self.api_key_id or self.api_secret)

    @cached_property
    def merchants(self) -> Mapping[str, Merchant]:
        """Our merchants by id; none is an error.

        Raises:
            SettingsError: no merchant is given, or what is given is wrong.
        """
        if self.merchants_file is not None:
            if self.merchant_id or self.api_key_id or self.api_secret:
                raise SettingsError(f"{PREFIX}MERCHANTS_FILE and {PREFIX}MERCHANT_ID are both set; keep one of them")
            merchants = merchants_of_file(self.merchants_file)
        elif self.names_merchants:
            merchants = [
                single_merchant(
                    {
                        "id": self.merchant_id,
                        "api_key_id": self.api_key_id,
                        "api_secret": self.api_secret,
                        "api_endpoint": self.api_endpoint,
                        "policy": self.policy,
                    }
                )
            ]
        else:
            raise SettingsError(
                f"no merchant is set: give {PREFIX}MERCHANT_ID, {PREFIX}API_KEY_ID and {PREFIX}API_SECRET, "
                f"or {PREFIX}MERCHANTS_FILE for several"
            )
        return {merchant.id: merchant for merchant in merchants}


def load_settings(**given: Any) -> Settings:
    """Read the environment and ``.env``.

    Args:
        given: values that go before the environment's, by field name.

    Raises:
        SettingsError: a name is unknown or a value is wrong; every one of them is named.
    """
    try:
        problems = _unknown_names()
        settings = Settings(**given)
    except ValidationError as error:
        problems.append(told(error, PREFIX))
    except UnreadableValue as error:  # of a setting with several parts; its text names the field, never the value
        name = "".join(re.findall(r'field "(\w+)"', str(error))).upper()
        problems.append(f"{PREFIX}{name}: not JSON; docs/settings.md shows an example")
    except UnicodeDecodeError:
        raise SettingsError(f"{ENV_FILE} is not UTF-8 text") from None
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


class _SecretFiles(PydanticBaseSettingsSource):
    """``PAYHOOK_API_SECRET_FILE=/run/secrets/x`` in place of ``PAYHOOK_API_SECRET``."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        values, named = {}, given()
        for field in SECRETS:
            name = f"{PREFIX}{field.upper()}"
            if f"{name}_FILE" not in named:
                continue
            if name in named:
                raise SettingsError(f"{name} and {name}_FILE are both set; keep one of them")
            values[field] = read_secret_file(f"{name}_FILE", named[f"{name}_FILE"].value)
        return values


def setting_names() -> list[str]:
    """Every name a setting can be given by, with the prefix."""
    names = [f"{PREFIX}{field.upper()}" for field in Settings.model_fields]
    return names + [f"{PREFIX}{field.upper()}_FILE" for field in SECRETS]


def _unknown_names() -> list[str]:
    known, problems = setting_names(), []
    for name in sorted(set(given()) - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "docs/settings.md lists every name"
        problems.append(f"{name} is not a setting; {hint}")
    return problems


__all__ = [
    "PREFIX",
    "SECRETS",
    "TEST_ENDPOINT",
    "Merchant",
    "Settings",
    "SettingsError",
    "endpoint",
    "load_settings",
    "read_secret_file",
    "setting_names",
]
