"""Having engines answer requests into the spool: the forms, the interface, the files, the progress.

Imports `host`, `recipe` and `gpus`; which engines there are is in `backends`.
"""
