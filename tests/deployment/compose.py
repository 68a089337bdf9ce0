"""docker-compose.yml as Docker Compose reads it, and what a service of it becomes on a machine without containers."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
SECRETS = "/run/secrets/"

#: `$$`, `${NAME}`, `${NAME:-default}` and `${NAME:?what is missing}`.
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")


def load(values: Mapping[str, str]) -> dict[str, Any]:
    """The file, with these variables in the place of the environment's."""

    def value_of(match: re.Match[str]) -> str:
        dollar, name, kind, more = match.groups()
        if dollar or name in values:
            return dollar or values[name]
        if kind != "-":
            raise KeyError(f"{name}: {more}")
        return str(more)

    content: dict[str, Any] = yaml.safe_load(VARIABLE.sub(value_of, FILE.read_text(encoding="utf-8")))
    return content


def environment(service: Mapping[str, Any], secrets: Path) -> dict[str, str]:
    """What a service's process finds in its environment, with its secrets in this folder."""
    given: dict[str, str] = service.get("environment", {})
    return {name: value.replace(SECRETS, f"{secrets}{os.sep}") for name, value in given.items()}


def entrypoint() -> str:
    """The image's program, to which a service's command is given."""
    found = re.search(r'^ENTRYPOINT \["(\w+)"\]$', (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]
