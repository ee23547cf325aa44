//go:build tools

// Package kind names kind in a module of its own: it is built only where Docker runs, and needs older libraries than the rest.
package kind

import _ "sigs.k8s.io/kind"
