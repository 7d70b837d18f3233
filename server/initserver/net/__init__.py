"""Sockets, TLS, certificates that rotate, and the HTTP port of metrics and probes."""
