"""What people see: Events, metrics, health, logs."""
