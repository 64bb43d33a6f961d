module mlflow-image/packer

go 1.21.0

require github.com/hashicorp/packer v1.11.2

// Packer's own line: a replacement counts only in the module that is being built.
replace github.com/zclconf/go-cty => github.com/nywilken/go-cty v1.13.3
