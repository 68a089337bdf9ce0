"""The rules of the house that no linter knows."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGES = ("ingress", "worker", "sandbox", "migrations")

# A file is a station on the way of an event, a folder is a family: these names say neither.
NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "helpers", "helper", "core", "services", "managers", "misc", "lib"}


@cache
def files() -> list[Path]:
    """What git has, or would add; without git (in an unpacked source distribution) whatever is there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=REPOSITORY, capture_output=True
    )
    if listed.returncode == 0:
        found = [REPOSITORY / name for name in listed.stdout.decode().split("\0") if name]
    else:
        tops = (*PACKAGES, "tests", "docs", "benchmarks", ".ci")
        found = [path for top in tops for path in (REPOSITORY / top).rglob("*") if "__pycache__" not in path.parts]
        found += REPOSITORY.glob("*")
    return sorted(path for path in found if path.is_file())


def named(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def python_files(*tops: str) -> list[Path]:
    return [path for path in files() if path.suffix == ".py" and path.relative_to(REPOSITORY).parts[0] in tops]


def test_there_is_something_to_look_at() -> None:
    """The rules below are about files that are there."""
    assert {path.relative_to(REPOSITORY).parts[0] for path in python_files(*PACKAGES, "tests")} == {*PACKAGES, "tests"}


def test_no_folder_and_no_module_has_a_name_that_says_nothing() -> None:
    """What has no place of its own has not been thought through."""

    def says_nothing(part: str) -> bool:
        return part.removesuffix(".py").strip("_").lower() in NAMES_THAT_SAY_NOTHING

    empty = [named(path) for path in files() if any(map(says_nothing, path.relative_to(REPOSITORY).parts))]

    assert empty == []


@pytest.mark.parametrize("path", python_files(*PACKAGES), ids=named)
def test_every_module_opens_with_a_sentence(path: Path) -> None:
    """It says what the module is for, and ends with a full stop before anything more is said."""
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))

    assert told
    first = " ".join(told.split("\n\n")[0].split())
    assert first.endswith((".", "`).", ":")), first


def test_no_folder_of_the_tests_is_a_package() -> None:
    """They are imported by their paths."""
    assert [named(path) for path in python_files("tests") if path.name == "__init__.py"] == []


@pytest.mark.parametrize("path", [path for path in python_files("tests") if path.name.startswith("test_")], ids=named)
def test_every_test_states_a_behaviour(path: Path) -> None:
    """Its docstring is the sentence that fails."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tests = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]

    assert tests
    assert [f"{test.name}: line {test.lineno}" for test in tests if not ast.get_docstring(test)] == []


@pytest.mark.parametrize("path", python_files("tests"), ids=named)
def test_no_test_replaces_parts_by_mocks(path: Path) -> None:
    """Fakes are small classes written by hand."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert imported & {"mock", "unittest.mock", "pytest_mock", "responses", "requests_mock"} == set()


# An address that only one machine, or one company, can reach must not be in what everybody builds from.
INDEXES = ("pypi", "pythonhosted", "devpi", "artifactory", "nexus")
INDEX = re.compile(rf"https?://[^\s\"'<>]*(?:{'|'.join(INDEXES)}|/simple\b)[^\s\"'<>]*")
INDEX_OPTION = re.compile(r"^\s*(?:--(?:extra-)?index-url|--find-links|--trusted-host|-i|-f)[ =]", re.MULTILINE)


@pytest.mark.parametrize(
    "line",
    [
        *(f"--index-url https://{index}.example/packages" for index in INDEXES),
        *(f"x @ https://files.{index}.example/x.whl" for index in INDEXES),
        "http://mirror/simple/",
    ],
)
def test_an_address_of_a_package_index_is_known_when_seen(line: str) -> None:
    """The pattern below finds what it is for."""
    assert INDEX.search(line)


def test_no_file_names_a_package_index() -> None:
    """Where packages come from is the machine's business: locks hold versions and hashes."""
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in files() if path != Path(__file__)}

    assert [named(path) for path, text in texts.items() if INDEX.search(text)] == []
    assert [named(path) for path, text in texts.items() if path.suffix == ".lock" and INDEX_OPTION.search(text)] == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_locked_package_has_a_version_and_hashes(name: str) -> None:
    """What is installed is what was looked at."""
    entries = [
        entry
        for entry in (REPOSITORY / name).read_text().replace("\\\n", " ").splitlines()
        if entry.strip() and not entry.lstrip().startswith("#")
    ]

    assert len(entries) > 20
    assert [entry for entry in entries if not re.match(r"[a-z0-9._-]+==\S+\s+--hash=sha256:[0-9a-f]{64}", entry)] == []


def test_every_locked_package_of_the_node_caller_has_a_version_and_a_hash_and_no_address() -> None:
    """npm writes beside each package where it was fetched from, unless it is told not to."""
    lock = json.loads((REPOSITORY / "tests/end_to_end/node_caller/package-lock.json").read_text())
    packages = [entry for name, entry in lock["packages"].items() if name]

    assert len(packages) > 20
    assert [entry for entry in packages if not {"version", "integrity"} <= entry.keys() or "resolved" in entry] == []


def test_what_runs_is_locked_alike_for_developing() -> None:
    """Every version of the lock for running stands in the one for developing too."""
    locked = [
        dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (REPOSITORY / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    ]

    assert locked[0].items() <= locked[1].items()


NAMES_PROBE = """
import json
from worker import tasks
queues = tasks.app.conf.task_queues
print(json.dumps({
    "tasks": sorted(name for name in tasks.app.tasks if not name.startswith("celery.")),
    "queues": sorted(queue.name for queue in queues),
    "durable": all(queue.durable for queue in queues),
    "arguments": [queue.queue_arguments for queue in queues if queue.queue_arguments],
    "exchanges": sorted({queue.exchange.name for queue in queues}),
    "serializers": [tasks.app.conf.task_serializer, tasks.app.conf.result_serializer, *tasks.app.conf.accept_content],
    "default": tasks.app.conf.task_default_queue,
    "reconcile": tasks.app.amqp.router.route({}, "payhook.reconcile")["queue"].name,
    "late": [tasks.app.conf.task_acks_late, tasks.app.conf.task_reject_on_worker_lost],
    "limits": [tasks.app.conf.task_soft_time_limit, tasks.app.conf.task_time_limit],
    "kills": tasks.app.conf.worker_cancel_long_running_tasks_on_connection_loss,
}))
"""


@pytest.fixture(scope="module")
def celery(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the worker's Celery app is set up as, asked in a process of its own."""
    folder = tmp_path_factory.mktemp("celery")
    ended = subprocess.run(
        [sys.executable, "-c", NAMES_PROBE], cwd=folder, env={}, capture_output=True, text=True, check=True
    )
    return dict(json.loads(ended.stdout))


def test_tasks_and_queues_keep_the_names_that_others_use(celery: dict[str, object]) -> None:
    """Other systems name them: a new one may come, none of these may go."""
    tasks, queues = celery["tasks"], celery["queues"]

    assert isinstance(tasks, list)
    assert isinstance(queues, list)
    assert {"payhook.events", "payhook.payments", "payhook.reconcile"} <= set(tasks)
    assert all(name.startswith("payhook.") for name in tasks)
    assert {"payhook.events", "celery"} <= set(queues) <= {"payhook.events", "payhook.operations", "celery"}
    assert celery["reconcile"] == "payhook.events"
    assert celery["default"] == "celery"


def test_queues_can_be_declared_by_any_client(celery: dict[str, object]) -> None:
    """Durable and without arguments: a client in another language declares the same without knowing us."""
    assert celery["durable"]
    assert celery["arguments"] == []


def test_messages_are_json_only(celery: dict[str, object]) -> None:
    """A pickle in the queue would be code run by whoever can write to it."""
    assert celery["serializers"] == ["json", "json", "json"]


def test_a_message_is_let_go_of_late_and_never_by_a_time_limit(celery: dict[str, object]) -> None:
    """A lost worker's messages come again; no exception is raised in the middle of a commit."""
    assert celery["late"] == [True, True]
    assert celery["limits"] == [None, None]
    assert celery["kills"] is False


def test_the_sdk_is_pinned() -> None:
    """What it does wrong was mended for one version of it."""
    text = (REPOSITORY / "pyproject.toml").read_text()

    assert re.search(r'"onlinepayments-sdk-python3==\d+\.\d+\.\d+"', text)


def test_signatures_are_never_compared_with_an_operator() -> None:
    """How long `==` takes tells how much of a guess was right."""
    tree = ast.parse((REPOSITORY / "ingress" / "signatures.py").read_text())
    compared = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops)
        and "signature" in ast.unparse(node)
    ]

    assert compared == []


FORBIDDEN_CALLS = {"eval", "exec", "pickle.loads", "pickle.load", "marshal.loads", "yaml.load", "os.system"}


@pytest.mark.parametrize("path", python_files(*PACKAGES), ids=named)
def test_nothing_runs_what_it_was_sent(path: Path) -> None:
    """No evaluation, no pickles, no shell, no TLS without verification."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    keywords = {(keyword.arg, ast.unparse(keyword.value)) for call in calls for keyword in call.keywords}

    assert {ast.unparse(call.func) for call in calls} & FORBIDDEN_CALLS == set()
    assert keywords & {("shell", "True"), ("verify", "False")} == set()
