"""The libraries whose arrays `fetch` returns: one file each, found by its name."""
