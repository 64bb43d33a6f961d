"""One QEMU virtual machine: its disk, console, monitor and ssh. Knows nothing of MLflow."""
