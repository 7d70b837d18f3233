"""The entry points of the commands, and in v1 the wire contract, which `make protos` generates."""
