"""Lines about the machine the doctor is run on: the settings in force, the user, the room on the disk."""

import os
import pwd
import shutil

from ingress.doctor.installation import Installation
from ingress.doctor.lines import Finding, Line, failed, ok, warning
from ingress.key_stores import kind_of_store
from worker.gateways import open_gateways
from worker.policies import policies_of
from worker.settings import SettingsError
from worker.settings.inventory import DEFAULT

MIB = 1024 * 1024

#: Bytes left on the file system of a SQLite file: under the first a day of webhooks may fill it, under the second an
#: hour, and SQLite needs some to begin with.
LITTLE_ROOM, NO_ROOM = 500 * MIB, 50 * MIB


def lines(of: Installation) -> list[Line]:
    told = [Line("settings", lambda: settings(of)), Line("user", lambda: user(of))]
    return [*told, Line("disk", lambda: disk(of))] if of.sqlite_file else told


def settings(of: Installation) -> Finding:
    """Whether a process could start with them."""
    problems = [*of.inventory.problems, *_found_later(of)]
    if problems:
        names = ", ".join(dict.fromkeys(entry.name for entry in of.inventory.entries if entry.problem))
        return failed("; ".join(problems), f"correct {names or 'what is named'}; `payhook doctor --settings` shows all")
    count = len(of.inventory.entries) - of.inventory.count(DEFAULT)
    return ok(f"{count} given, the others are defaults; `payhook doctor --settings` shows all")


def _found_later(of: Installation) -> list[str]:
    """What a process finds only when it opens its parts."""
    problems = []
    for part in (lambda: of.settings.merchants, lambda: kind_of_store(of.settings), lambda: policies_of(of.settings)):
        try:
            part()
        except SettingsError as error:
            problems.append(str(error))
    if not problems:
        try:
            open_gateways(of.settings)
        except SettingsError as error:
            problems.append(str(error))
    return list(dict.fromkeys(problems))


def user(of: Installation) -> Finding:
    """Root reads and writes everything: what it makes, others cannot, and what it runs needs no hole to do harm."""
    if os.geteuid() != 0:
        return ok(f"{_name(os.geteuid())}, not root")
    path = of.sqlite_file
    owner = path.stat().st_uid if path is not None and path.exists() else 0
    who = _name(owner) if owner else "USER"
    return warning(
        "root: a file it makes cannot be written by payhook's own user",
        f"run it as that user: `sudo -u {who} payhook doctor`",
    )


def disk(of: Installation) -> Finding:
    """The room left for the SQLite file."""
    of.insist_on_file()
    assert of.sqlite_file is not None
    folder = of.sqlite_file.parent
    usage = shutil.disk_usage(folder)
    told = f"{usage.free // MIB} MiB of {usage.total // MIB} are free in {folder}"
    if usage.free >= LITTLE_ROOM:
        return ok(told)
    tell = failed if usage.free < NO_ROOM else warning
    return tell(told, f"make room in {folder}: {LITTLE_ROOM // MIB} MiB at least")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user need not have a name
        return str(uid)
