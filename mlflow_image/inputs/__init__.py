"""The inputs of an image: its definition, and files identified by their sha256."""
