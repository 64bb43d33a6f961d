"""The server settings: schema, rules and messages, the same in the image and on the host."""
