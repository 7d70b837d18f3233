"""Work that callers share: single flight and its caches. Nothing here knows about plans."""
