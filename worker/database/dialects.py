"""SQL that PostgreSQL and SQLite spell differently: the one clock, and a few words more."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, DateTime, Dialect, String, TypeDecorator
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time; on SQLite text of the very form ``database.now()`` yields, so that texts compare."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(23))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone; every time here is aware UTC")
        value = value.astimezone(UTC)
        if dialect.name == "sqlite":
            return value.strftime("%Y-%m-%d %H:%M:%S.") + f"{value.microsecond // 1000:03d}"
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        return value.astimezone(UTC)  # type: ignore[no-any-return]


class now(FunctionElement[Any]):
    """The database's clock, the only one that leases and due times are told by.

    On PostgreSQL ``statement_timestamp()``: ``clock_timestamp()`` is volatile, which keeps indexes from being used.
    """

    type = UtcTime()
    inherit_cache = True


class seconds_from_now(FunctionElement[Any]):
    """The database's clock and so many seconds (a number or an expression) later."""

    type = UtcTime()
    inherit_cache = True


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    return "statement_timestamp()"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    # CURRENT_TIMESTAMP has whole seconds, and datetime('now', 'subsec') is NULL before SQLite 3.42.
    return "strftime('%Y-%m-%d %H:%M:%f', 'now')"


@compiles(seconds_from_now, "postgresql")
def _later_postgresql(element: seconds_from_now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(statement_timestamp() + {compiler.process(element.clauses, **kw)} * interval '1 second')"


@compiles(seconds_from_now, "sqlite")
def _later_sqlite(element: seconds_from_now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', ({compiler.process(element.clauses, **kw)}) || ' seconds')"


class least(FunctionElement[Any]):
    """The smallest of several non-NULL values (PostgreSQL's ``least``, SQLite's ``min`` of several arguments)."""

    inherit_cache = True


@compiles(least, "postgresql")
def _least_postgresql(element: least, compiler: SQLCompiler, **kw: Any) -> str:
    return f"least({compiler.process(element.clauses, **kw)})"


@compiles(least, "sqlite")
def _least_sqlite(element: least, compiler: SQLCompiler, **kw: Any) -> str:
    return f"min({compiler.process(element.clauses, **kw)})"


def insert_into(table: Any, connection: Connection | str) -> Any:
    """An INSERT that can say ON CONFLICT, in the dialect of a connection (or named)."""
    dialect = connection if isinstance(connection, str) else connection.dialect.name
    return {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[dialect](table)
