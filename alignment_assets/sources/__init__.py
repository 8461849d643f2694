"""Where prompts come from: reading rows, what makes one a prompt, and what its origin consents to.

Imports `host` and `recipe`.
"""
