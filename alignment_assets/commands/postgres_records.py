"""Dagster's records in PostgreSQL: whether they can be reached, and their tables made by one alone.

Dagster makes the tables that it misses in many steps. Two processes that do so at once, on one host
or on two, end each other with errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alignment_assets.host.expected import Expected

# What dagster-postgres is written for. SQLAlchemy 2.1 takes psycopg 3 where a URL names no driver,
# and with that the web server finds each of its connections closed.
DRIVER = "postgresql+psycopg2"
# Seconds until a server that does not answer is given up.
CONNECT_SECONDS = 10
# Of advisory locks, the one for this; any number that nobody else locks in such a database.
_FIRST_USE = 0x616C69676E


@contextmanager
def alone_in(url: str, settings: Path, timeout: float) -> Iterator[None]:
    """Have no other process that comes this way in a database while the body runs.

    Args:
        url: the database, as SQLAlchemy takes it.
        settings: the file that names it, for people.
        timeout: seconds to wait for others at most.

    Raises:
        Expected: the database cannot be used, or stays with another process.
    """
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.pool import NullPool

    place = make_url(url)
    where = f"database {place.database} at {place.host}:{place.port}"
    if place.drivername != DRIVER:
        raise Expected(
            f"{settings}: dagster-postgres is made for psycopg2, and this names "
            f"{place.drivername}: say `scheme: {DRIVER}` below postgres_db, or begin postgres_url "
            f"with {DRIVER}://"
        )
    # A connection of its own, closed at the end, which frees the lock.
    engine = create_engine(
        place,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={"connect_timeout": CONNECT_SECONDS},
    )
    try:
        connection = engine.connect()
    except OperationalError as error:
        said = str(error.orig).strip().splitlines()[0]
        raise Expected(
            f"{settings}: Dagster's records are in PostgreSQL, {where}, which refuses: {said}; "
            f"{_remedy(said, str(place.username))}"
        ) from error
    with connection:
        connection.execute(text(f"SET lock_timeout = '{timeout:.0f}s'"))
        try:
            connection.execute(text(f"SELECT pg_advisory_lock({_FIRST_USE})"))
        except OperationalError as error:
            raise Expected(
                f"{settings}: another process has opened Dagster's records in {where} for "
                f"{timeout:.0f} s and goes on; end it, and run again"
            ) from error
        yield


def _remedy(said: str, user: str) -> str:
    if "password" in said:
        return f"put the password of {user} into the environment variable that the file names"
    if "does not exist" in said:
        return "make it as deploy/README.md says"
    return "start the server, or put host and port right"
