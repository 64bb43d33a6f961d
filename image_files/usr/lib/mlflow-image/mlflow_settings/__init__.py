"""The server settings: one schema, rules and messages, in the image and on the laptop."""
