"""The blocks of the settings document, one module each, and what several blocks share."""
