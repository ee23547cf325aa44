"""Everything of a cluster that the demo and fast tests need, in one process: an API server, kubelets, SDKs and a story."""
