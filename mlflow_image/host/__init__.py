"""What this host can do: accelerator, user namespaces, processes, qemu-img, memory and disk."""
