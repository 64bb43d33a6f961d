"""From a definition to an image: layers, their cache, and the order in which they are made."""
