//go:build program

// Package program names what this module is there to build, so that go.sum pins all of it.
package program

import _ "github.com/hashicorp/packer"
