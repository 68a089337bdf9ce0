"""A fact that several workers change: held for the length of a transaction."""

from typing import Any

from sqlalchemy import Connection, Row, select, update

from worker.database import insert_into, now
from worker.models import Fact


def held(connection: Connection, name: str) -> Row[Any]:
    """The fact's ``value`` (an empty one is made where there is none) and ``due_at``, and the time ``at``; nobody else
    changes it until the transaction ends."""
    chosen = select(Fact.value, Fact.due_at, now().label("at")).where(Fact.name == name).with_for_update()
    found = connection.execute(chosen).one_or_none()
    if found is None:
        made = insert_into(Fact, connection).values(name=name, value={})
        connection.execute(made.on_conflict_do_nothing(index_elements=["name"]))
        found = connection.execute(chosen).one()
    return found


def keep(connection: Connection, name: str, **columns: Any) -> None:
    """Write columns of a fact that is held."""
    connection.execute(update(Fact).where(Fact.name == name).values(**columns))
