"""What a caller of the database may have to deal with."""


class DatabaseUnavailable(Exception):
    """The database did not answer in time or not at all; nothing can be said of what was under way."""


class ConnectionBroke(DatabaseUnavailable):
    """A pooled connection was dead, as after a restart of the server: a new one may well work at once."""


class WrongRevision(DatabaseUnavailable):
    """The schema is of another revision than this version of payhook was written for."""
