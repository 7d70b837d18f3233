"""Processes: one server, workers that share a port, signals, the start and the stop."""
