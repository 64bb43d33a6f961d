"""The one time that every file of an image is clamped to."""

#: Seconds since 1970: 2026-11-21. Source of the name: reproducible-builds.org/specs.
SOURCE_DATE_EPOCH = 1795219200
