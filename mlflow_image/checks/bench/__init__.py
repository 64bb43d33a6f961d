"""The benchmark: figures, each with its goal."""
