"""Makes Dagster's daemon look for backfills every second, not every 30: no setting does.

Python imports this at its start, where this folder is in PYTHONPATH. It tells the daemon by its
command, since importing Dagster into any other process would only cost time.
"""

import sys

if "dagster._daemon" in sys.orig_argv:
    import dagster._daemon.controller

    dagster._daemon.controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 1
