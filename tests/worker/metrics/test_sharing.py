"""Processes that count together: nothing is lost or counted twice, whoever dies, in no more files than needed.

Each test is a program of its own, for it forks.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

#: What every program begins with: a child that counts and is killed, and what all have counted.
BEGIN = """
import os, signal, threading, time
from pathlib import Path
from worker import metrics

sent = metrics.RINGS.labels("sent")

def in_a_child(work):
    child = os.fork()
    if child == 0:
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

def counted():
    samples = [one for family in metrics.counts().collect() for one in family.samples]
    (value,) = [one.value for one in samples if one.name == "payhook_rings_total" and one.labels["outcome"] == "sent"]
    return value

def folder():
    return Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])

def files():
    return sorted(path.name for path in folder().iterdir())

"""


def run(program: str, tmp_path: Path) -> str:
    """What a program said that ended well."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_child_that_is_killed_takes_no_count_with_it_and_leaves_no_file_behind(tmp_path: Path) -> None:
    """Whoever takes its place goes on in its files."""
    said = run(
        """
metrics.share()
sent.inc(100)
for _ in range(5):
    in_a_child(lambda: sent.inc(7))
    print(int(counted()), len(files()))
""",
        tmp_path,
    )

    assert said.split("\n")[:-1] == ["107 6", "114 6", "121 6", "128 6", "135 6"]


def test_children_that_live_at_once_have_a_slot_each(tmp_path: Path) -> None:
    """None overwrites what another counts."""
    said = run(
        """
metrics.share()
ready, go = os.pipe(), os.pipe()
def count():
    for _ in range(1000):
        sent.inc()
    os.write(ready[1], b".")
    os.read(go[0], 1)
    for _ in range(1000):
        sent.inc()
    os._exit(0)
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        count()
    children.append(child)
for _ in children:
    os.read(ready[0], 1)
print(int(counted()), len(files()))
os.write(go[1], b"....")
for child in children:
    os.waitpid(child, 0)
print(int(counted()), len(files()))
""",
        tmp_path,
    )

    assert said == "4000 15\n8000 15\n"


def test_a_child_can_count_whatever_its_parent_did_as_it_forked(tmp_path: Path) -> None:
    """No lock that another thread held at that moment stays locked in the child."""
    said = run(
        """
metrics.share()
def count_on():
    while True:
        sent.inc()
for _ in range(3):
    threading.Thread(target=count_on, daemon=True).start()
for _ in range(40):
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        sent.inc()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "it hung"
print("all")
os._exit(0)
""",
        tmp_path,
    )

    assert said == "all\n"


def test_the_folder_goes_with_its_owner(tmp_path: Path) -> None:
    """Not with a child that ends in good order; and what a killed owner left behind goes as the next one starts."""
    said = run(
        """
import subprocess, sys
metrics.share()
if os.fork() == 0:
    sent.inc()
    raise SystemExit
os.wait()
print(files() != [])
script = "import os; from worker import metrics; metrics.share();"
script += "print(os.environ['PROMETHEUS_MULTIPROC_DIR'], flush=True)"
killed = subprocess.run([sys.executable, "-c", script + "; os.kill(os.getpid(), 9)"], capture_output=True, text=True)
print(Path(killed.stdout.strip()).is_dir())
following = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
print(Path(killed.stdout.strip()).exists(), Path(following.stdout.strip()).exists(), files() != [])
print(folder())
""",
        tmp_path,
    )

    *told, folder = said.splitlines()
    assert told == ["True", "True", "False False True"]
    assert not Path(folder).exists()


def test_no_count_is_worth_failing_what_was_counted(tmp_path: Path) -> None:
    """A child that finds the folder gone counts for itself."""
    said = run(
        """
import shutil
metrics.share()
shutil.rmtree(folder())
def count():
    sent.inc()
    metrics.RINGS.labels("dropped").inc()
    metrics.JOBS.labels("another", "done").inc()
    print("went on", flush=True)
in_a_child(count)
""",
        tmp_path,
    )

    assert said.splitlines()[-1] == "went on"


@pytest.mark.parametrize("program", ["sent.inc(3); print(int(counted()), 'PROMETHEUS_MULTIPROC_DIR' in os.environ)"])
def test_one_process_needs_no_files(program: str, tmp_path: Path) -> None:
    """It has its counts in memory."""
    assert run(program, tmp_path) == "3 False\n"
