"""Which platform and merchants this database belongs to: a copy of production, started elsewhere, moves no money."""

from collections.abc import Mapping

import structlog
from sqlalchemy import Connection, select, update

from worker import journal
from worker.database import insert_into
from worker.models import Fact

log = structlog.get_logger("payhook.operations")

FACT = "fingerprint"


def stranger(connection: Connection, hosts: Mapping[str, str]) -> str | None:
    """Why a process must not move money by this database; None when it may.

    The first process to move money leaves its fingerprint. A merchant more is taken up; one less, or another host for
    one, is another installation.

    Args:
        connection: a transaction.
        hosts: the platform's host for each merchant of this process.
    """
    ours = dict(hosts)
    known = _known(connection)
    if known is None:
        insert = insert_into(Fact, connection).values(name=FACT, value={"hosts": ours})
        connection.execute(insert.on_conflict_do_nothing(index_elements=["name"]))
        known = _known(connection) or {}
    if known == ours:
        return None
    if any(ours.get(merchant_id) != host for merchant_id, host in known.items()):
        return (
            f"this database moves the money of {told(known)}; the settings of this process say {told(ours)}. Is it a "
            "copy of another installation's? If not, `payhook operations adopt` has it go by these settings"
        )
    adopt(connection, hosts, why=f"merchants added: {', '.join(sorted(set(ours) - set(known)))}")
    return None


def adopt(connection: Connection, hosts: Mapping[str, str], *, why: str, actor: str = journal.OURSELVES) -> None:
    """Let this database belong to these merchants at these hosts from now on."""
    ours = dict(hosts)
    insert = insert_into(Fact, connection).values(name=FACT, value={"hosts": ours})
    connection.execute(insert.on_conflict_do_nothing(index_elements=["name"]))
    connection.execute(update(Fact).where(Fact.name == FACT).values(value={"hosts": ours}))
    log.warning("database.adopted", security=True, actor=actor, why=why, hosts=ours)
    journal.write(connection, FACT, FACT, before=None, after=None, why=f"{why}: {told(ours)}", actor=actor)


def _known(connection: Connection) -> dict[str, str] | None:
    value = connection.execute(select(Fact.value).where(Fact.name == FACT)).scalar_one_or_none()
    return None if value is None else dict(value["hosts"])


def told(hosts: Mapping[str, str]) -> str:
    """Which merchants at which hosts, for a person."""
    return ", ".join(f"{merchant_id} at {host}" for merchant_id, host in sorted(hosts.items()))
