"""Files: atomic replacement, sinks, partial files, safetensors, Hugging Face's layout."""
