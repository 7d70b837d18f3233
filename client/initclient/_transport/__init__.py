"""Calls to a service: channels, failover, checked downloads. Importing it imports gRPC."""
