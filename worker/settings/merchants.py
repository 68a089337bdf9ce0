"""The merchants we work for: one from the environment, or several from a file."""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator

from worker.settings.values import PREFIX, TEST_ENDPOINT, Endpoint, Policy, SettingsError, read_secret_file, told


class Merchant(BaseModel):
    """One merchant (PSPID) of the platform and how to reach it."""

    model_config = {"extra": "forbid", "frozen": True}

    id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    api_key_id: str = Field(min_length=1)
    api_secret: SecretStr = Field(min_length=1)
    api_endpoint: Endpoint = TEST_ENDPOINT
    policy: Policy = "manual"

    @model_validator(mode="before")
    @classmethod
    def _secret_from_file(cls, values: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(values, dict):
            raise ValueError("not a table; a merchant begins with [[merchant]]")
        values = dict(values)
        path = values.pop("api_secret_file", None)
        if path is not None:
            values["api_secret"] = read_secret_file("api_secret_file", path)
        return values


def merchants_of_file(path: Path) -> list[Merchant]:
    """Every ``[[merchant]]`` of a TOML file.

    Raises:
        SettingsError: it cannot be read, or a merchant in it is wrong; says which and why.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{PREFIX}MERCHANTS_FILE: {path} cannot be read ({type(error).__name__})") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{PREFIX}MERCHANTS_FILE: {path} is not TOML: {error}") from None
    tables = content.get("merchant")
    if not isinstance(tables, list) or not tables or set(content) != {"merchant"}:
        raise SettingsError(f"{PREFIX}MERCHANTS_FILE: {path} holds no [[merchant]] tables, or something else too")
    merchants = []
    for number, table in enumerate(tables, start=1):
        where = f"{path}, merchant {number}: "
        try:
            merchants.append(Merchant.model_validate(table))
        except ValidationError as error:
            raise SettingsError(told(error, where)) from None
        except SettingsError as error:
            raise SettingsError(f"{where}{error}") from None
    if len({merchant.id for merchant in merchants}) < len(merchants):
        raise SettingsError(f"{PREFIX}MERCHANTS_FILE: {path} names a merchant twice")
    return merchants


def single_merchant(values: dict[str, Any]) -> Merchant:
    """The one merchant of the environment.

    Raises:
        SettingsError: a part of it is missing or wrong.
    """
    for name in ("id", "api_key_id", "api_secret"):
        if not values[name]:
            setting = "MERCHANT_ID" if name == "id" else name.upper()
            raise SettingsError(f"{PREFIX}{setting} is missing; a merchant needs its id, API key id and API secret")
    try:
        return Merchant.model_validate(values)
    except ValidationError as error:
        raise SettingsError(told(error, "the merchant's ")) from None
