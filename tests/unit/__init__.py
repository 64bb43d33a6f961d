"""Unit tests: a package, so that two folders may each have a test_render.py."""
