"""Requests and responses as bytes and messages: parsing, chunk framing, refusals with details."""
