"""A stand-in: the launcher only looks whether it is installed."""
