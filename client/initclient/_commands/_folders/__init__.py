"""Model folders: a plan with the files that belong to it, as servers and `mount` read them."""

from initclient._commands._folders.model_folder import (
    CONFIG_FILE,
    PLAN_FILE,
    WEIGHTS,
    files_of_model,
    write_model_folder,
)

__all__ = ["CONFIG_FILE", "PLAN_FILE", "WEIGHTS", "files_of_model", "write_model_folder"]
