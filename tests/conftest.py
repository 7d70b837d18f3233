"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says something about the machine, which others share, and nothing
# about the product.
settings.register_profile("initserve", deadline=None)
settings.load_profile("initserve")
