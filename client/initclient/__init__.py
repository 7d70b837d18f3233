"""The public API of initserve."""
