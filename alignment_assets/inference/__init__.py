"""Asking engines: requests, the spool of answers, models' fingerprints, and the worker process."""
