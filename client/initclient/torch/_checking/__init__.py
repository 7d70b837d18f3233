"""verify for torch: each process's parts, added up over all processes."""
