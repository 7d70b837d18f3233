"""Models of servers by name: the plan of a model, and lists of models."""

from initclient._models.listing import get_plan, list_models
from initclient._models.lookup import request_for, settled

__all__ = ["get_plan", "list_models", "request_for", "settled"]
