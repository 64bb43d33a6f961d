"""Counts what a server loses: clients log without a pause, and everything is read back later."""
