"""What this machine offers: memory for large results and the CPUs that may be used.

Nothing here knows about tensors.
"""
