"""What single values must look like, and the error that says so."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, ValidationError

from worker.settings.policies import named_policies

PREFIX = "PAYHOOK_"

#: The platform's test endpoint: trying things out must never reach live money by default.
TEST_ENDPOINT = "https://payment.preprod.direct.worldline-solutions.com"


class SettingsError(Exception):
    """A setting is wrong, missing or unknown; the message says which one and what would be right."""


def endpoint(value: str) -> str:
    """An address of the platform: https, or http on this machine only; no path (the SDK refuses one)."""
    try:
        parts = urlsplit(value)
        bare = parts.hostname and parts.port != 0 and not any((parts.path, parts.query, parts.fragment))
    except ValueError:
        bare = False
    if not value.isprintable() or " " in value:
        bare = False  # urlsplit drops line ends without a word
    if bare and parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError("http is for this machine only; the platform is reached by https")
    if not bare or "@" in value or parts.scheme not in ("http", "https"):
        raise ValueError(f"not scheme://host[:port] without a path; for example {TEST_ENDPOINT}")
    return value


def _policy(value: str) -> str:
    """Policies as they are written; one silently not carried out would be money not moved."""
    named_policies(value)
    return value


#: What a merchant and the settings of the one merchant are both given.
Endpoint = Annotated[str, AfterValidator(endpoint)]
Policy = Annotated[str, AfterValidator(_policy)]


def read_secret_file(name: str, path: str | Path) -> str:
    """The secret in a file, without the line end an editor leaves."""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}: {path} cannot be read ({type(error).__name__})") from None


def told(error: ValidationError, before: str) -> str:
    """What pydantic found, without what was given: that may be a secret."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"])
        name = where.upper() if before == PREFIX else where
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{before}{name}: {message}" if name else message)
    return "\n".join(lines)
