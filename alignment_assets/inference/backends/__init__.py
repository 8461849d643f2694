"""What answers a model's requests, one folder a backend; `by_model` lists them and chooses.

A backend imports what `inference` gives, never another backend.
"""
