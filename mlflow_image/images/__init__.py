"""What is in dist/: which images exist, what each one is, how a new one gets there."""
