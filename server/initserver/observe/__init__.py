"""What people and machines see of the calls: logs, metrics, traces."""
