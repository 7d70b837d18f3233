"""What the service computes: plans, chunks and fingerprints, each once for all callers."""
