"""The rival's two tables, and sessions on its engine."""

import os
from datetime import UTC, datetime

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

#: As many as threads that use it: the default of 5 + 10 would have threads wait, and connections opened over and over.
engine = create_engine(os.environ["NAIVE_DATABASE_URL"], pool_size=32)
Session = sessionmaker(engine)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


class Base(DeclarativeBase):
    pass


class Event(Base):
    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(unique=True)
    type: Mapped[str]
    payment_id: Mapped[str] = mapped_column(index=True)
    body: Mapped[str]
    received_at: Mapped[datetime] = mapped_column(default=_now)
    processed_at: Mapped[datetime | None]


class Payment(Base):
    __tablename__ = "payments"

    payment_id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    status_code: Mapped[int]
    amount: Mapped[int]
    currency: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(default=_now, onupdate=_now)


if __name__ == "__main__":
    Base.metadata.create_all(engine)
