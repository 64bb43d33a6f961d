"""One QEMU virtual machine: its disk, console, monitor, ssh. Knows no MLflow."""
