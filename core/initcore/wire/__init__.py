"""Plans and chunks as bytes: protobuf messages, plan files, varints and checksums.

Not here: gRPC, which server and client bring.
"""
