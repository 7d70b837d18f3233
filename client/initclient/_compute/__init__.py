"""Values computed in this process: arrays of any framework, and ranges of a file."""
