"""The version of the distribution, and of the bit contract it implements."""

__version__ = "0.1.0"

STREAM_VERSION = 1
