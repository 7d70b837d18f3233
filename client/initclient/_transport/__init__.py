"""Calls to a service: channels, failover, checked downloads. Importing `blocking` imports gRPC."""

from initclient._transport.named import catalog_request, named, settled

__all__ = ["catalog_request", "named", "settled"]
