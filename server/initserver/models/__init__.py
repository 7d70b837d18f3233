"""Models by name: a folder of plans, which is read again when it changes."""

from initserver.models.blobs import Blob, BlobChangedError, blob_id, blob_of
from initserver.models.listing import (
    MOST_FILES,
    PLAN_FILE,
    Listing,
    files_beside,
    list_models,
)
from initserver.models.repository import Model, Models, model_changed, unknown_model
from initserver.models.settings import SETTINGS_FILE, ModelSettings, parse_settings, settings_of

__all__ = [
    "MOST_FILES",
    "PLAN_FILE",
    "SETTINGS_FILE",
    "Blob",
    "BlobChangedError",
    "Listing",
    "Model",
    "ModelSettings",
    "Models",
    "blob_id",
    "blob_of",
    "files_beside",
    "list_models",
    "model_changed",
    "parse_settings",
    "settings_of",
    "unknown_model",
]
