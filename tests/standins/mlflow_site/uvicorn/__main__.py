"""`python -m uvicorn`, with any options."""

import uvicorn

uvicorn.serve()
