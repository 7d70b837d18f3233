"""A plan as text: descriptions, remarks, the table of `describe`, numbers with their units.

Client and server both use it. Not here: figures (`report`).
"""

from initcore.show.description import Description, TensorDescription, from_layout
from initcore.show.grouping import pattern
from initcore.show.json_text import json_text
from initcore.show.table import print_description, scheme_text, shape_text, values_text
from initcore.show.text import (
    MAX_FOREIGN,
    counted,
    fitted,
    printable,
    printable_lines,
    printable_texts,
    size_text,
)

__all__ = [
    "MAX_FOREIGN",
    "Description",
    "TensorDescription",
    "counted",
    "fitted",
    "from_layout",
    "json_text",
    "pattern",
    "print_description",
    "printable",
    "printable_lines",
    "printable_texts",
    "scheme_text",
    "shape_text",
    "size_text",
    "values_text",
]
