"""The stand-in's application, which the launcher imports."""

app = object()
