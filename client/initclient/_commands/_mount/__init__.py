"""A folder whose weights are computed, or fetched from servers, when they are read (FUSE).

Not here: plans and sources, which are those of every call.
"""

from initclient._commands._mount.beside import files_beside
from initclient._commands._mount.mounting import check_mountpoint, mount
from initclient._commands._mount.tree import Tree, tree_of

__all__ = ["Tree", "check_mountpoint", "files_beside", "mount", "tree_of"]
