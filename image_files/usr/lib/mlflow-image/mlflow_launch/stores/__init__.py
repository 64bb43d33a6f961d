"""Whether the server's stores can be reached, and what is wrong in one line when they cannot."""
