"""Systems that ask payhook for something: the scripts of docs/requests.md, with nothing of payhook in their reach."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tests.end_to_end.conftest import Start
from tests.servers.server import INSTALL

ROOT = Path(__file__).parents[2]
NODE_PACKAGES = Path(__file__).parent / "node_caller"


@dataclass(frozen=True)
class Caller:
    """A script, and what runs it."""

    name: str
    command: tuple[str | Path, ...]
    folder: Path

    def ask(self, start: Start, task: str, arguments: dict[str, Any], env: Mapping[str, str]) -> Any:
        """Run the script to its end in this environment; the answer it printed, None for none."""
        asked = start(self.name, *self.command, task, json.dumps(arguments), env=env, cwd=self.folder)
        code, printed = asked.wait_until_ended(), asked.output()
        assert code == 0, printed
        return json.loads(printed) if printed else None


def python_caller(folder: Path) -> Caller:
    """The documented script in Python, in a virtual environment that holds Celery and what Celery needs.

    They are the files of the environment that the tests run in, linked: the locked versions, and nothing to download.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for package in with_its_needs(Requirement("celery[redis]")).values():
        for top in {Path(file).parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            (packages / top).symlink_to(Path(str(package.locate_file(top))))
    script = folder / "ask.py"
    script.write_text(documented("python"))
    return Caller("python", (folder / "bin" / "python", "-I", script), folder)


def node_caller(folder: Path) -> Caller:
    """The documented script in JavaScript, with celery-node and its needs in the versions of the lock file."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise RuntimeError(f"no Node here; {INSTALL}")
    for file in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(NODE_PACKAGES / file, folder)
    quiet = ("--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error")
    installed = subprocess.run([npm, "ci", *quiet], cwd=folder, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    script = folder / "ask.mjs"
    script.write_text(documented("js"))
    return Caller("node", (node, script), folder)


def documented(language: str) -> str:
    """The one script in this language that docs/requests.md shows."""
    page = (ROOT / "docs" / "requests.md").read_text(encoding="utf-8")
    (script,) = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return str(script)


def with_its_needs(wanted: Requirement) -> dict[str, Distribution]:
    """What is installed of a package and of all that it requires, by name."""
    package = distribution(wanted.name)
    found = {package.name: package}
    for need in map(Requirement, package.requires or ()):
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
            found |= with_its_needs(need)
    return found
