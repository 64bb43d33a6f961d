"""The blocks of the settings document: one module for each, and the rules that they share."""
