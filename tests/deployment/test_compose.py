"""docker-compose.yml and the Dockerfile agree with payhook, with nginx's configuration and with each other."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import click
import pytest
from cryptography.fernet import Fernet

from ingress.cli import main
from tests.deployment import compose
from tests.deployment.installation import INGRESSES
from worker.settings import PREFIX, load_settings, setting_names

ROOT = compose.ROOT
MERCHANT = {"PAYHOOK_MERCHANT_ID": "MyShop", "PAYHOOK_API_KEY_ID": "key"}
CONTENT: dict[str, Any] = compose.load(MERCHANT)
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
NGINX = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "deploy" / "nginx").iterdir()}

#: What whoever installs payhook brings along; the rest is made for him.
BROUGHT = {"api_secret", "tls_certificate", "tls_key"}

every_service = pytest.mark.parametrize("name", SERVICES)
every_one_of_ours = pytest.mark.parametrize("name", OURS)


def secrets_of(name: str) -> dict[str, str]:
    """Where a service finds its secrets, by their names."""
    mounted = {}
    for secret in SERVICES[name].get("secrets", []):
        source = secret if isinstance(secret, str) else secret["source"]
        mounted[source] = compose.SECRETS + source if isinstance(secret, str) else secret["target"]
    return mounted


def texts(value: Any) -> Iterator[str]:
    """Every text in a piece of the file."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)
    else:
        yield str(value)


def test_the_services_are_there() -> None:
    """Those that the rules below are about."""
    assert set(OURS) == {"ingress-a", "ingress-b", "worker", "migrate"}
    assert set(SERVICES) - set(OURS) == {"nginx", "postgres", "rabbitmq", "redis"}


@every_one_of_ours
def test_every_variable_is_a_setting(name: str) -> None:
    """One that is not would stop the process, and then only in production."""
    assert set(OURS[name]["environment"]) <= set(setting_names())


def test_every_variable_asked_of_the_environment_is_a_setting_or_compose_s_own() -> None:
    """A merchant's settings have the names they have everywhere; without them Compose does not start."""
    asked = {match[2] for match in compose.VARIABLE.finditer(compose.FILE.read_text()) if match[2]}

    assert asked - set(setting_names()) == {"HTTPS_PORT"}
    for name in MERCHANT:
        with pytest.raises(KeyError, match=r"put it into \.env"):
            compose.load({key: value for key, value in MERCHANT.items() if key != name})


@every_one_of_ours
def test_every_command_exists(name: str) -> None:
    """Its words, and its options with their values, are parsed as payhook parses them."""
    word, *arguments = OURS[name]["command"]
    command: click.Command = main.commands[word]

    context = command.make_context(word, [str(argument) for argument in arguments], resilient_parsing=False)

    assert context.command is command


@every_one_of_ours
def test_the_settings_of_a_service_are_all_it_needs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as the process reads them, from secrets that deploy/make-secrets.sh has made."""
    made(tmp_path)
    (tmp_path / "api_secret").write_text("secret")
    for known in setting_names():
        monkeypatch.delenv(known, raising=False)
    monkeypatch.chdir(tmp_path)
    for variable, value in compose.environment(OURS[name], tmp_path).items():
        monkeypatch.setenv(variable, value)

    settings = load_settings()

    assert settings.database_url.get_secret_value().startswith("postgresql+psycopg://")
    if name != "migrate":
        assert not settings.embedded_broker
    if name == "worker":
        assert list(settings.merchants) == ["MyShop"]
        assert settings.result_backend is not None
    if name in INGRESSES:
        assert settings.encryption_keys is not None
        Fernet(settings.encryption_keys.get_secret_value())


@every_service
def test_every_secret_is_mounted_where_it_is_looked_for(name: str) -> None:
    """And none is mounted that is not used, or that does not exist."""
    mounted = secrets_of(name)
    used = {*re.findall(rf"{compose.SECRETS}\w+", " ".join(texts(SERVICES[name])))}
    if name == "nginx":
        used |= set(re.findall(rf"{compose.SECRETS}\w+", NGINX["listen.conf"]))

    assert set(mounted) <= set(CONTENT["secrets"])
    assert {path for path in mounted.values() if path.startswith(compose.SECRETS)} == used


def test_no_secret_is_a_variable() -> None:
    """What holds a secret is given as a file, in every service."""
    variables = {variable for service in SERVICES.values() for variable in service.get("environment", {})}

    told = {name for name in variables if re.search(r"URL|SECRET|PASSWORD|KEYS|BACKEND", name)}

    assert told
    assert all(name.endswith("_FILE") for name in told)


def test_the_secrets_that_are_made_agree(tmp_path: Path) -> None:
    """Every secret is made but those that only the merchant has; URL and server have one password; no second run
    changes anything."""
    told = made(tmp_path)
    content = {path.name: path.read_text() for path in tmp_path.iterdir()}
    made(tmp_path)

    password = content["postgres_password"].strip()
    assert set(content) == set(CONTENT["secrets"]) - BROUGHT
    assert set(re.findall(r"\w+$|\w+(?= )", told.splitlines()[0].split(":")[1])) >= BROUGHT
    assert content["database_url"].strip() == f"postgresql+psycopg://payhook:{password}@postgres/payhook"
    assert re.search(r"default_pass = (\w{48})", content["rabbitmq_conf"])[1] in content["broker_url"]  # type: ignore[index]
    assert content["redis_conf"].split()[1] in content["result_backend"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == content
    assert tmp_path.stat().st_mode & 0o077 == 0


def test_every_address_in_a_secret_is_a_service(tmp_path: Path) -> None:
    """Each of the URLs names the service that answers, on a network that its reader is on."""
    made(tmp_path)

    for secret, service in (("database_url", "postgres"), ("broker_url", "rabbitmq"), ("result_backend", "redis")):
        assert f"@{service}/" in (tmp_path / secret).read_text()
        readers = [name for name in OURS if secret in secrets_of(name)]
        assert readers
        for reader in readers:
            assert set(SERVICES[service]["networks"]) & set(SERVICES[reader]["networks"])


def test_every_port_agrees() -> None:
    """nginx listens where Docker and its own health check reach it, and asks the ingresses where these listen."""
    listens = re.findall(r"^listen (\d+) ssl;", NGINX["listen.conf"], re.MULTILINE)
    asks = re.findall(r"^\s*server ([\d.]+):(\d+)", NGINX["upstream.conf"], re.MULTILINE)
    ingresses = [SERVICES[name] for name in INGRESSES]

    assert [port.rpartition(":")[2] for port in SERVICES["nginx"]["ports"]] == listens
    assert f"https://127.0.0.1:{listens[0]}/webhooks" in SERVICES["nginx"]["healthcheck"]["test"]
    assert asks == [
        (service["networks"]["ingress"]["ipv4_address"], option(service["command"], "--port")) for service in ingresses
    ]
    for service in ingresses:
        port = option(service["command"], "--port")
        assert service["expose"] == [port]
        assert f'("127.0.0.1", {port},' in service["healthcheck"]["test"][-1]
        assert option(service["command"], "--host") == "0.0.0.0"
        assert f"EXPOSE {port}\n" in DOCKERFILE
    assert len(ingresses) == 2


def test_the_ingresses_addresses_are_their_own() -> None:
    """In the network's subnet, and not among those that Docker gives to others."""
    ((subnet, chosen),) = [
        (ip_network(config["subnet"]), ip_network(config["ip_range"]))
        for config in CONTENT["networks"]["ingress"]["ipam"]["config"]
    ]
    addresses = {ip_address(SERVICES[name]["networks"]["ingress"]["ipv4_address"]) for name in INGRESSES}

    assert len(addresses) == len(INGRESSES)
    assert all(address in subnet and address not in chosen for address in addresses)


def test_only_nginx_can_be_reached_from_outside() -> None:
    """Nothing else has a port on the host, and the networks of the stores and the ingresses lead nowhere else."""
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]
    assert CONTENT["networks"]["ingress"]["internal"]
    assert CONTENT["networks"]["stores"]["internal"]
    assert "stores" not in SERVICES["nginx"]["networks"]


@pytest.mark.parametrize("name", [*OURS, "nginx"])
def test_what_faces_strangers_can_change_nothing(name: str) -> None:
    """Not root, a read-only file system, no capabilities, and none to be gained."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    user = service.get("user") or re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@every_service
def test_every_service_has_limits_and_a_health_check(name: str) -> None:
    """Processors, memory and processes; `migrate` ends by itself and has nothing to check."""
    limits = SERVICES[name]["deploy"]["resources"]["limits"]

    assert set(limits) == {"cpus", "memory", "pids"}
    assert ("healthcheck" in SERVICES[name]) == (name != "migrate")
    assert SERVICES[name]["restart"] == ("no" if name == "migrate" else "unless-stopped")


def test_the_schema_is_brought_up_to_date_once_and_first() -> None:
    """Every process that uses it waits for `migrate` to have ended well, and that waits for a healthy PostgreSQL."""
    for name in set(OURS) - {"migrate"}:
        assert SERVICES[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_workers_scale() -> None:
    """No worker has a name, an address or a port of its own that a second one could not have."""
    worker = SERVICES["worker"]

    assert isinstance(worker["networks"], list)
    assert {"container_name", "ports", "hostname"} & set(worker) == set()


def test_the_connections_fit() -> None:
    """What all processes may open at most, by the table in docs/running.md, is less than PostgreSQL allows."""
    children = int(option(SERVICES["worker"]["command"], "--concurrency"))
    most = len(INGRESSES) * (2 + 2 * 17) + 4 * (1 + 8 * children)
    allowed = int(next(word for word in SERVICES["postgres"]["command"] if "max_connections" in word).split("=")[1])

    assert most < allowed - 3  # which are the superuser's
    assert f"{most} connections" in (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


def test_the_image_is_built_from_locked_packages() -> None:
    """Hashes for everything that is installed, and a base image of the Python that payhook needs."""
    installs = re.findall(r"pip install ([^&\n]*(?:\\\n[^&\n]*)*)", DOCKERFILE)

    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"python:3.11-slim-bookworm", "packages"}


def test_the_wheel_of_the_image_is_whole(tmp_path: Path) -> None:
    """Built as in the image, from nothing but what is copied there: every package and every migration is in it."""
    stage = DOCKERFILE.partition(" AS wheel")[2].partition("\nFROM")[0]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (.+)$", stage, re.MULTILINE):
        *sources, _target = line.split()
        for source in sources:
            assert f"!{source}" in ignored
            kind = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            kind(ROOT / source, tmp_path / source)

    (command,) = re.findall(r"^RUN pip (wheel .+)$", stage, re.MULTILINE)
    subprocess.run([sys.executable, "-m", "pip", "-q", *command.split()], cwd=tmp_path, check=True, timeout=60)

    (wheel,) = (tmp_path / "dist").iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("ingress", "worker", "sandbox", "migrations"):
        sources = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert sources <= names


def option(command: list[str], name: str) -> str:
    """The value of an option."""
    return str(command[command.index(name) + 1])


def made(folder: Path) -> str:
    """Run the script that makes the secrets; what it told."""
    script = ROOT / "deploy" / "make-secrets.sh"
    return subprocess.run([script, folder], capture_output=True, text=True, check=True, env=dict(os.environ)).stderr


def test_the_rules_have_something_to_look_at() -> None:
    """The prefix is the one that the settings have."""
    assert all(name.startswith(PREFIX) for service in OURS.values() for name in service["environment"])
