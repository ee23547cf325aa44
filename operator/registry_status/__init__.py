"""Keeps the statuses of instances in Apache ServiceComb Service Center in step with their Kubernetes pods."""

__version__ = "0.1.0"
