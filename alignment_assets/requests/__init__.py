"""What engines are asked for which asset, and asking only for what has no answer yet.

Imports `warehouse` and `inference`, and what these import.
"""
