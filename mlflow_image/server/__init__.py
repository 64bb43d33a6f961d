"""A tracking server that runs in a VM, or on this host for measurements."""
