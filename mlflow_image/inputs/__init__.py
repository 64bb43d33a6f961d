"""What goes into an image: the definition, and files that are known by their sha256."""
