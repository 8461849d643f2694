"""DuckDB's extensions: from the package index's wheels where they are, else from DuckDB's server.

Each wheel, ``duckdb-extension-NAME``, carries the extension for the DuckDB of its own version.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import duckdb

from alignment_assets.warehouse.schema import WarehouseError

# Lets files be loaded whose signature is not looked at: those that `_verified` has looked at.
SETTINGS = {"allow_unsigned_extensions": "true"}


def load_extensions(connection: duckdb.DuckDBPyConnection, names: tuple[str, ...]) -> None:
    """Load extensions into a connection that was made with `SETTINGS`.

    DuckDB's signature of each is checked once a process; it takes 50 ms.

    Raises:
        WarehouseError: one is neither installed nor on offer, or not DuckDB's.
    """
    for name in names:
        try:
            file = _verified(name)
            if file is None:
                connection.execute(f"INSTALL {name}")
            connection.execute(f"LOAD {name}" if file is None else f"LOAD '{file}'")
        except duckdb.Error as error:
            raise WarehouseError(
                f"DuckDB's extension {name} cannot be loaded ({str(error).splitlines()[0]}): "
                f"make lake, or outside a checkout pip install 'alignment-assets[lake]'"
            ) from error


@cache
def _verified(name: str) -> str | None:
    """Return the installed file of an extension as a literal's text; None if there is none."""
    try:
        folder = files(f"duckdb_extension_{name}") / "extensions" / f"v{duckdb.__version__}"
    except ModuleNotFoundError:
        return None
    file = str(Path(str(folder)) / f"{name}.duckdb_extension").replace("'", "''")
    with duckdb.connect() as connection:  # which loads nothing that DuckDB has not signed
        connection.execute(f"LOAD '{file}'")
    return file
