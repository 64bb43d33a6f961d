# One bake: boots an overlay of the base, runs the layer's provisioning steps, and shuts down.
packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.0.9"
    }
  }
}

source "qemu" "layer" {
  vm_name          = "disk.qcow2"
  output_directory = "/cache/work/output"

  # The overlay already exists: Packer 1.6.6 cannot create one with current qemu-img versions.
  # Packer copies a disk image of the right format unchanged, including its backing file.
  disk_image      = true
  iso_url         = "/cache/work/overlay.qcow2"
  iso_checksum    = "none"
  format          = "qcow2"
  skip_compaction = true

  # Each option in qemuargs replaces Packer's own option of the same name.
  accelerator = "none"
  headless    = true
  disable_vnc = true
  boot_wait   = "1s"
  qemuargs = [
    ["-accel", "tcg,thread=multi"],
    ["-netdev", "user,id=user.0,restrict=on,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
  ]

  ssh_username           = "root"
  ssh_private_key_file   = "/cache/work/id_ed25519"
  ssh_timeout            = "15m"
  ssh_handshake_attempts = 1000
  shutdown_command       = "systemctl poweroff"
  shutdown_timeout       = "10m"
}

build {
  sources = ["source.qemu.layer"]

  # The boot continues while the steps run; hand-over.sh waits until it has finished.
  provisioner "shell" {
    inline = [
      "mkdir -p /run/payload",
      "mount -o ro LABEL=cidata /run/payload",
    ]
  }

  provisioner "shell" {
    script           = "/checkout/scripts/guest/10-python.sh"
    environment_vars = ["PAYLOAD=/run/payload", "ODD=a \"quoted\" $${value} %%{if}"]
  }

  provisioner "shell" {
    script           = "/checkout/scripts/guest/20-files.sh"
    environment_vars = ["PAYLOAD=/run/payload", "ODD=a \"quoted\" $${value} %%{if}"]
  }
}
