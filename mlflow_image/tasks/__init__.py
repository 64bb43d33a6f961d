"""Invoke tasks: one a verb; they parse, call, print."""
