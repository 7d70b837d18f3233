"""The gRPC service: its methods, its health, and who may call them."""
