"""The version of the distribution, and of the bit contract it implements."""

__version__ = "0.3.0.dev0"

STREAM_VERSION = 1
