"""What a pod says: its annotations, its observation, and the status they call for."""
