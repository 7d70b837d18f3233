"""Generated wire contract of initserve; `make protos` regenerates it."""
