"""A stand-in for MLflow: as much of it as the launcher looks at, so that a test can alter it."""
