"""The initserve service."""
