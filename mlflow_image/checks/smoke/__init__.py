"""The smoke test: a real MLflow client logs a run and reads everything back."""
