"""Values of tensors: element runs, matrices, composed tensors, checkpoints.

Not here: where a tensor lies in a file (`file`), and the inner loops (`backends`).
"""
