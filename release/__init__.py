"""Make a release and try it: `make release`. Nothing is published by it."""
