"""Does it work, and how fast: the image's contract, the smoke test, the benchmark."""
