"""The virtual safetensors file: its layout, digest, bytes and fingerprints."""
