"""A root tree becomes a disk, the same bytes every time."""
