module mlflow-image/packer-plugin-qemu

go 1.21.0

require github.com/hashicorp/packer-plugin-qemu v1.0.9
