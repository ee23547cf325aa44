"""The Kubernetes side: access, the watch, single reads, the lease."""
