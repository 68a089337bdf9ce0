"""The systemd units are valid, confined, and agree with payhook and with docker-compose.yml."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from ingress.cli import main
from tests.deployment import compose
from tests.ingress.conftest import program
from tests.servers.nginx_server import PROGRAM
from worker.settings import setting_names

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
OURS = sorted(path.name for path in UNITS.glob("*.service"))
SERVICES = compose.load({"PAYHOOK_MERCHANT_ID": "MyShop", "PAYHOOK_API_KEY_ID": "key"})["services"]

#: Which service of the containers a unit is.
SAME = {
    "payhook-migrate.service": "migrate",
    "payhook-ingress@.service": "ingress-a",
    "payhook-worker@.service": "worker",
    "payhook-nginx.service": "nginx",
}

#: As systemd counts it, in tenths: 0 is safe, 100 is unsafe; a unit that confines nothing has 96.
MOST_EXPOSED = 20

every_unit = pytest.mark.parametrize("name", OURS)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units where systemd finds them, with programs that are there."""
    folder = tmp_path_factory.mktemp("units")
    shutil.copytree(UNITS, folder, dirs_exist_ok=True)
    for path in folder.glob("*.service"):
        text = path.read_text().replace("/opt/payhook/bin/payhook", str(program("payhook")))
        path.write_text(text.replace("/opt/payhook/docs", str(compose.ROOT / "docs")))
    return folder


def analyze(installed: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{installed}:", "LC_ALL": "C.UTF-8"}
    return subprocess.run(["systemd-analyze", *arguments], env=environment, capture_output=True, text=True, timeout=60)


def values(name: str, key: str) -> list[str]:
    """Every value that a unit gives to a key, in order."""
    return re.findall(rf"^{key}=(.*)$", (UNITS / name).read_text(encoding="utf-8"), re.MULTILINE)


def variables(name: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for line in values(name, "Environment") for pair in line.split())


@every_unit
def test_systemd_finds_nothing_wrong(installed: Path, name: str) -> None:
    """Neither an error nor a warning."""
    checked = analyze(installed, "verify", "--man=no", installed / name)

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@every_unit
def test_every_unit_is_confined(installed: Path, name: str) -> None:
    """By the rules that all of them share, which systemd reads because of where they lie."""
    assessed = analyze(installed, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", name)

    assert assessed.returncode == 0, assessed.stdout[-300:] + assessed.stderr


def test_every_service_of_the_containers_has_its_unit() -> None:
    """All that are not a server's own package."""
    assert set(SAME) == set(OURS)


@every_unit
def test_every_variable_is_a_setting(name: str) -> None:
    """The same ones as in the containers, with the same secrets; the merchant's come from a file."""
    given, contained = variables(name), SERVICES[SAME[name]].get("environment", {})
    if values(name, "EnvironmentFile"):
        example = (UNITS / "worker.env.example").read_text(encoding="utf-8")
        given |= dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))

    assert set(given) <= set(setting_names())
    assert set(contained) - set(given) <= {"PAYHOOK_RESULT_BACKEND_FILE"}  # Redis is for those who want results
    assert set(given) <= set(contained)


@every_unit
def test_every_secret_is_handed_over(name: str) -> None:
    """Each file that a variable names is a credential of the unit, and no other is."""
    credentials = {line.split(":")[0] for line in values(name, "LoadCredential")}

    used = {value.removeprefix("%d/") for value in variables(name).values() if value.startswith("%d/")}
    if name == "payhook-nginx.service":
        used = {"tls_certificate", "tls_key"}

    assert credentials == used
    assert credentials <= set(SERVICES[SAME[name]]["secrets"])


@every_unit
def test_every_command_exists(name: str) -> None:
    """With the arguments it has in the container, but for where it listens."""
    (line,) = values(name, "ExecStart")
    path, *arguments = line.replace("%i", "8080").replace('"daemon off;"', "daemon-off").split()
    if path == str(PROGRAM):
        contained = [word.replace("daemon off;", "daemon-off") for word in SERVICES["nginx"]["command"]]
        assert [word for word in arguments if "/" not in word] == [word for word in contained if "/" not in word]
        return
    command: click.Command = main.commands[arguments[0]]
    command.make_context(arguments[0], arguments[1:])

    assert path == "/opt/payhook/bin/payhook"
    assert arguments[0] == SERVICES[SAME[name]]["command"][0]


@every_unit
def test_a_unit_gives_as_much_as_its_container(name: str) -> None:
    """Time to leave, memory and processes."""
    service = SERVICES[SAME[name]]
    limits = service["deploy"]["resources"]["limits"]

    assert values(name, "MemoryMax") == [limits["memory"]]
    assert values(name, "TasksMax") == [str(limits["pids"])]
    if name not in ("payhook-nginx.service", "payhook-migrate.service"):
        assert f"{values(name, 'TimeoutStopSec')[0]}s" == service["stop_grace_period"]
