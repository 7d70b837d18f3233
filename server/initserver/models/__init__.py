"""Models by name: a folder of plans, which is read again when it changes."""

from initserver.models.listing import Listing, files_beside, list_models
from initserver.models.repository import Model, Models, unknown_model

__all__ = ["Listing", "Model", "Models", "files_beside", "list_models", "unknown_model"]
