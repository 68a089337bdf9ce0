"""The documentation names everything there is, and nothing that is not."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from ingress.cli import main
from ingress.signatures import REASONS
from worker import lifecycle
from worker.database import migrate
from worker.lifecycle import MovementKind
from worker.models import Base
from worker.operations.requests import ARGUMENTS_OF, read
from worker.settings import PREFIX, Settings, setting_names
from worker.settings.merchants import merchants_of_file

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README, DESIGN, SETTINGS, COMMANDS, RUNNING, REQUESTS = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        "docs/design.md",
        "docs/settings.md",
        "docs/commands.md",
        "docs/running.md",
        "docs/requests.md",
    )
)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CELERYS_OWN = "celery."
EVERYWHERE = {"--version", "--help", "-h"}

#: Printed by a process of its own: making the Celery app reads the environment.
WHAT_THERE_IS = """
import json
from ingress import create_app
from worker.celery_app import OPERATIONS_QUEUE
from worker.tasks import app
app.finalize()
print(json.dumps({
    "tasks": sorted(app.tasks),
    "queues": sorted({*app.amqp.queues, OPERATIONS_QUEUE}),
    "routes": sorted(
        f"{method} {rule.rule}"
        for rule in create_app().url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    ),
}))
"""


def commands(group: click.Group = main, name: str = "payhook") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by the words it is called with."""
    for word, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


COMMANDS_THERE_ARE = dict(commands())
OPTIONS_THERE_ARE = [
    (name, option)
    for name, command in COMMANDS_THERE_ARE.items()
    for option in command.params
    if isinstance(option, click.Option)
]


def section_of(name: str) -> str:
    """What docs/commands.md says of a command."""
    found = re.search(rf"^## `{re.escape(name)}`\n(.*?)(?=^## |\Z)", COMMANDS, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def rows_of(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables by their first cell."""
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def code_of(page: str) -> list[str]:
    """What a page shows as code: the lines of its blocks, and what stands between backticks in its text."""
    blocks = [line for _, block in FENCE.findall(page) for line in block.splitlines()]
    text = FENCE.sub("", page)
    indented = [line for line in text.splitlines() if line.startswith("    ")]
    return [line.strip() for line in [*blocks, *indented, *re.findall(r"`([^`\n]+)`", text)]]


def slug_of(heading: str) -> str:
    """The anchor that a heading gets where the pages are shown."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.fixture(scope="module")
def there_is(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Tasks, queues and routes, asked of the real apps."""
    folder = tmp_path_factory.mktemp("documentation")
    migrate(f"sqlite:///{folder / 'payhook.db'}")
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    keys = {"PAYHOOK_KEY_STORE": "memory:", "PAYHOOK_WEBHOOK_KEYS": "a=b"}
    done = subprocess.run(
        [sys.executable, "-c", WHAT_THERE_IS],
        cwd=folder,
        env={**clean, **keys, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", setting_names())
def test_every_setting_is_documented(name: str) -> None:
    """With its prefix, so that a search for it finds it."""
    assert f"`{name}`" in SETTINGS


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_has_the_default_that_is_documented(field: str) -> None:
    """None is "none", a list has its brackets, secrets have no default worth hiding."""
    default: Any = Settings.model_fields[field].default
    plain = default.get_secret_value() if hasattr(default, "get_secret_value") else default
    shown = plain if isinstance(plain, str) else json.dumps(plain)

    told = rows_of(SETTINGS)[f"`{PREFIX}{field.upper()}`"][0]

    assert told == ("none" if plain is None else f"`{shown}`")


@pytest.mark.parametrize("name", COMMANDS_THERE_ARE)
def test_every_command_is_documented(name: str) -> None:
    """Under a heading of its own."""
    assert section_of(name).strip()


@pytest.mark.parametrize(
    ("name", "option"), OPTIONS_THERE_ARE, ids=[f"{name} {option.opts[-1]}" for name, option in OPTIONS_THERE_ARE]
)
def test_every_option_is_documented(name: str, option: click.Option) -> None:
    """In the table of its command, with its default if it has one of its own."""
    row = rows_of(section_of(name))[f"`{option.opts[-1]}`"]

    if option.show_default:
        assert row[0] == f"`{option.default}`"


@pytest.mark.parametrize("name", COMMANDS_THERE_ARE)
def test_every_documented_option_exists(name: str) -> None:
    """The table of a command holds no other."""
    known = {opt for option in COMMANDS_THERE_ARE[name].params for opt in option.opts}

    told = {cell.strip("`") for cell in rows_of(section_of(name)) if cell.startswith("`--")}

    assert told <= known


def test_the_options_of_all_commands_are_documented() -> None:
    """Help is everywhere, the version at the top."""
    assert all(f"{option}`" in COMMANDS for option in EVERYWHERE)
    assert {opt for option in main.params for opt in option.opts} <= EVERYWHERE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_setting_that_does_not_exist(page: Path) -> None:
    """Whatever begins with our prefix is a setting; the start of several may stand with dots after it."""
    named = re.findall(rf"{PREFIX}[A-Z_]+(?!…|[A-Z_])", page.read_text(encoding="utf-8"))

    assert set(named) <= set(setting_names())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_command_that_does_not_exist(page: Path) -> None:
    """Where code begins with our command, its words are commands and what begins with a dash is an option of it."""
    for code in code_of(page.read_text(encoding="utf-8")):
        words = code.removeprefix(".venv/bin/").split()
        if words[:1] != ["payhook"]:
            continue
        del words[0]
        command: click.Command = main
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            assert words[0] in command.commands, code
            command = command.commands[words.pop(0)]
        known = {opt for option in command.params for opt in option.opts} | EVERYWHERE
        assert {word for word in words if word.startswith("-")} <= known, code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    """What a newcomer types first works."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    named = [
        match[1] for code in code_of(page.read_text(encoding="utf-8")) if (match := re.match(r"make ([a-z]+)", code))
    ]

    assert set(named) <= targets


def test_the_readme_shows_the_two_commands() -> None:
    """One to see it, one to check it."""
    assert {"make demo", "make test"} <= set(code_of(README))


def test_every_route_is_documented(there_is: dict[str, list[str]]) -> None:
    """Method and path, as they stand in the app's own map."""
    assert there_is["routes"]
    assert [route for route in there_is["routes"] if f"`{route}`" not in DESIGN] == []


def test_every_task_is_documented(there_is: dict[str, list[str]]) -> None:
    """All but Celery's own."""
    ours = [name for name in there_is["tasks"] if not name.startswith(CELERYS_OWN)]

    assert "payhook.reconcile" in ours
    assert [name for name in ours if f"`{name}`" not in DESIGN or f"`{name}`" not in RUNNING] == []


@pytest.mark.parametrize("kind", ARGUMENTS_OF)
def test_every_argument_of_a_request_is_documented(kind: MovementKind) -> None:
    """For the tasks that know it, and for no other."""
    told = rows_of(REQUESTS.partition("## Arguments")[2].partition("\n## ")[0])

    of_kind = {name.strip("`") for name, row in told.items() if row[0] == "all" or kind in row[0].split(", ")}

    assert of_kind == set(ARGUMENTS_OF[kind])


@pytest.mark.parametrize("example", re.findall(r"payhook\.(\w+) '(\{.*\})'$", REQUESTS, re.MULTILINE))
def test_every_request_that_is_shown_can_be_accepted(example: tuple[str, str]) -> None:
    """It says what it must, and nothing that its task does not know."""
    kind, arguments = example

    assert read(MovementKind(kind), json.loads(arguments), {"MyShop"}, unnamed="shown").problem is None


@pytest.mark.parametrize("state", lifecycle.OperationState)
def test_every_state_that_an_answer_can_tell_is_documented(state: lifecycle.OperationState) -> None:
    """In the first cell of a row."""
    assert any(f"`{state}`" in cell.split(", ") for cell in rows_of(REQUESTS))


def test_every_queue_is_documented(there_is: dict[str, list[str]]) -> None:
    """Those that workers consume, and the one that waits for a later version."""
    rows = rows_of(RUNNING)

    assert [name for name in there_is["queues"] if f"`{name}`" not in rows] == []


@pytest.mark.parametrize("table", Base.metadata.tables)
def test_every_table_is_documented_with_its_columns(table: str) -> None:
    """In its row of the page that is the schema."""
    (told,) = [line for line in DESIGN.splitlines() if line.startswith(f"| `{table}` (")]

    assert [name for name in Base.metadata.tables[table].columns.keys() if f"`{name}`" not in told] == []  # noqa: SIM118


@pytest.mark.parametrize("state", lifecycle.PaymentState)
def test_the_codes_of_every_state_are_documented(state: lifecycle.PaymentState) -> None:
    """Exactly those that mean it."""
    meanings = {**lifecycle.STATES_BY_CODE, **lifecycle.REFUSED_MAINTENANCE}

    told = rows_of(DESIGN)[f"`{state}`"][0]

    assert told == ", ".join(str(code) for code in sorted(meanings) if meanings[code] is state)


def test_every_log_event_is_documented() -> None:
    """What is logged under a name of its own stands where one looks it up."""
    sources = [
        path.read_text(encoding="utf-8") for root in ("ingress", "worker") for path in (ROOT / root).rglob("*.py")
    ]
    logged = {name for source in sources for name in re.findall(r'\b(?:log\.[a-z]+|tell)\(\s*"([a-z_.]+)"', source)}

    assert {"payment.reconciled", "webhook.forged"} <= logged
    assert {name for name in {*logged, *REASONS} if f"`{name}`" not in RUNNING} == set()


def test_every_control_has_tests_that_exist() -> None:
    """Each row of docs/security.md names some, by file and function, or says that it is open."""
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| S\d+ ", line)]
    numbers = {int(row.split()[1].removeprefix("S")) for row in rows}

    assert numbers >= {*range(1, 12), *range(20, 28), 60, 61, 62}
    assert [row for row in rows if "`tests/" not in row and "| open" not in row] == []
    for file, _, function in re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)(::(\w+))?`", page):
        source = (ROOT / file).read_text(encoding="utf-8")
        assert not function or re.search(rf"^def {function}\(", source, re.MULTILINE), f"{file}::{function}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_relative_link_resolves(page: Path) -> None:
    """To a file that is there, and to a heading in it."""
    text = page.read_text(encoding="utf-8")

    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.is_file(), target
        headings = re.findall(r"^#+ (.*)$", FENCE.sub("", linked.read_text(encoding="utf-8")), re.MULTILINE)
        assert not anchor or anchor in map(slug_of, headings), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_example_compiles(page: Path) -> None:
    """It can be copied as it stands."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            compile(block, page.name, "exec")


def test_the_readme_has_one_client_that_asks_for_a_reconciliation() -> None:
    """A Celery client with nothing of ours in it."""
    (client,) = [block for language, block in FENCE.findall(README) if 'send_task("payhook.reconcile"' in block]

    compile(client, "README.md", "exec")
    assert re.findall(r"^(?:from|import) (\w+)", client, re.MULTILINE) == ["os", "sys", "celery"]


def test_the_example_of_a_merchants_file_is_one(tmp_path: Path) -> None:
    """As the worker reads it."""
    (example,) = [block for language, block in FENCE.findall(SETTINGS) if language == "toml"]
    secret = tmp_path / "secret"
    secret.write_text("its secret\n")
    path = tmp_path / "merchants.toml"
    path.write_text(example.replace("/run/secrets/my-shop", str(secret)))

    merchants = merchants_of_file(path)

    assert [merchant.id for merchant in merchants] == [one["id"] for one in tomllib.loads(example)["merchant"]]


def test_the_queries_of_the_documentation_run(tmp_path: Path) -> None:
    """On a database of this version."""
    migrate(f"sqlite:///{tmp_path / 'payhook.db'}")
    (queries,) = [block for language, block in FENCE.findall(RUNNING) if language == "sql"]

    with sqlite3.connect(tmp_path / "payhook.db") as connection:
        found = [connection.execute(query).fetchall() for query in queries.split(";\n")]

    assert len(found) > 1
