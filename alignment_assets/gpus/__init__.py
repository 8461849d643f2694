"""The GPUs of this host, and which process may have them. Imports `host`."""
