# One build VM: boots an overlay on the base, runs the layer's steps, shuts down.
source "qemu" "layer" {
  vm_name          = "disk.qcow2"
  output_directory = "/cache/work/output"

  # The overlay is made before: Packer 1.6.6 cannot make one with today's qemu-img.
  # A disk image that already has the right format is copied as it is, backing file and all.
  disk_image      = true
  iso_url         = "/cache/work/overlay.qcow2"
  iso_checksum    = "none"
  format          = "qcow2"
  skip_compaction = true

  # Everything that qemuargs names replaces Packer's own words for it.
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

  # The rest of the boot goes on beside the steps; handing over waits for its end.
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
