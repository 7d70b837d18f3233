"""A torch model's parameters and buffers: names, shards, memory, the meta device."""
