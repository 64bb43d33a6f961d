"""The server settings: one schema, one set of rules and messages, in the image and on the laptop."""
