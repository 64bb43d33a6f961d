"""One layer's content: made in a VM by Packer, or on this host in a chroot."""
