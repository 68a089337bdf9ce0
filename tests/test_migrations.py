"""The migrations lead to the models and back, on both databases, from a checkout and from the wheel."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from worker.database import Database, head_revision, migrate, migrations_folder
from worker.models import Base

REPOSITORY = Path(__file__).parent.parent


def alembic_for(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.attributes["url"] = url
    return config


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database of each kind in turn."""
    database = Database(database_url, connections=2, seconds=10, revision=None)
    yield database
    database.close()


def tables(database: Database) -> set[str]:
    with database.engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def test_migrating_makes_every_table_of_the_models(database: Database, database_url: str) -> None:
    """And one for the revision."""
    migrate(database_url)

    assert tables(database) == {*Base.metadata.tables, "alembic_version"}


def test_the_migrations_lead_to_the_models(database: Database, database_url: str) -> None:
    """Alembic finds nothing to add, to change or to remove: types, indexes and constraints included."""
    migrate(database_url)

    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_constraints_have_the_names_of_the_models(database: Database, database_url: str) -> None:
    """A later migration can name every one of them."""
    migrate(database_url)

    for name, table in Base.metadata.tables.items():
        with database.engine.connect() as connection:
            found = inspect(connection)
            names = {
                *(row["name"] for row in found.get_check_constraints(name)),
                *(row["name"] for row in found.get_unique_constraints(name)),
                *(row["name"] for row in found.get_foreign_keys(name)),
                found.get_pk_constraint(name)["name"],
            }
        assert names == {constraint.name for constraint in table.constraints}


def test_going_all_the_way_back_leaves_nothing(database: Database, database_url: str) -> None:
    """And from there all the way up again."""
    migrate(database_url)

    command.downgrade(alembic_for(database_url), "base")
    left = tables(database)
    migrate(database_url)

    assert left == {"alembic_version"}
    assert tables(database) == {*Base.metadata.tables, "alembic_version"}


def test_migrating_again_changes_nothing(database: Database, database_url: str) -> None:
    """A deployment may run it every time."""
    migrate(database_url)
    with database.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO facts (name) VALUES ('kept')")

    migrate(database_url)

    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT name FROM facts").scalars().all() == ["kept"]


def test_the_revisions_are_one_line() -> None:
    """No two heads, no branch: there is one newest revision, and it is the one the database is checked for."""
    scripts = ScriptDirectory(str(migrations_folder()))

    assert scripts.get_heads() == [head_revision()]
    assert scripts.get_bases() == [list(scripts.walk_revisions())[-1].revision]
    assert all(len(script.nextrev) <= 1 for script in scripts.walk_revisions())


def test_a_url_may_hold_what_a_configuration_file_could_not(tmp_path: Path) -> None:
    """A per cent sign in a path or a password is no placeholder."""
    folder = tmp_path / "50%"
    folder.mkdir()

    migrate(f"sqlite:///{folder / 'payhook.db'}")

    assert (folder / "payhook.db").exists()


def test_the_statements_can_be_printed_for_somebody_else_to_run(tmp_path: Path) -> None:
    """Where the application may not change the schema, `alembic upgrade head --sql` says what to run."""
    ended = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", REPOSITORY / "alembic.ini", "upgrade", "head", "--sql"],
        env={"PAYHOOK_DATABASE_URL": "postgresql+psycopg://payhook@nowhere/payhook"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 0, ended.stderr
    assert "CREATE TABLE webhook_events" in ended.stdout
    assert f"'{head_revision()}'" in ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the project's own build tool."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    built = subprocess.run(
        [sys.executable, "-c", build, folder], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return folder / built.stdout.strip()


def test_the_wheel_holds_what_migrating_needs(wheel: Path) -> None:
    """Every migration, their environment and template, and Alembic's own file of settings."""
    names = set(zipfile.ZipFile(wheel).namelist())

    versions = {f"migrations/versions/{path.name}" for path in (REPOSITORY / "migrations/versions").glob("*.py")}
    assert versions
    assert versions | {"migrations/env.py", "migrations/script.py.mako", "migrations/alembic.ini"} <= names


def test_the_wheel_holds_nothing_else_than_the_packages(wheel: Path) -> None:
    """Neither tests nor what the tools leave behind."""
    names = zipfile.ZipFile(wheel).namelist()

    packages = {"ingress", "worker", "sandbox", "migrations"}
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == packages
    assert [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".db", ".key", ".env"))] == []


def test_an_installed_wheel_migrates(wheel: Path, tmp_path: Path) -> None:
    """`payhook migrate` needs no checkout: in a fresh environment, from any folder, the schema is there afterwards."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    [site] = environment.glob("lib/python3*/site-packages")
    # What payhook needs is taken from where the tests run: a path named so obeys no `.pth` file in it, and with that
    # not the one that leads to the checkout.
    (site / "others.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-compile", "--disable-pip-version-check", wheel], check=True, cwd=tmp_path)

    where = subprocess.run(
        [python, "-c", "import worker, migrations; print(worker.__file__, *migrations.__path__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    ended = subprocess.run(
        [environment / "bin" / "payhook", "migrate"], cwd=tmp_path, env={}, capture_output=True, text=True
    )

    assert all(path.startswith(str(site)) for path in where.stdout.split())
    assert (ended.returncode, ended.stdout) == (0, f"the database is at revision {head_revision()}\n"), ended.stderr
    database = Database(f"sqlite:///{tmp_path / 'payhook.db'}", connections=1, seconds=5, revision=head_revision())
    database.check()
    assert tables(database) == {*Base.metadata.tables, "alembic_version"}
    database.close()


def test_two_that_migrate_at_once_end_with_one_schema(tmp_path: Path) -> None:
    """On SQLite the second waits for the first."""
    url = f"sqlite:///{tmp_path / 'payhook.db'}"
    program = "import sys; from worker.database import migrate; migrate(sys.argv[1])"
    both = [subprocess.Popen([sys.executable, "-c", program, url], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [process.communicate()[1] for process in both]

    assert [process.returncode for process in both] == [0, 0], ends
