"""A plan for people: descriptions, remarks, the table of describe, numbers as text.

Client and server both show these. Not here: pictures (`report`).
"""

from initcore.show.description import Description, TensorDescription, from_layout
from initcore.show.table import print_description, scheme_text, shape_text, values_text
from initcore.show.text import counted, size_text

__all__ = [
    "Description",
    "TensorDescription",
    "counted",
    "from_layout",
    "print_description",
    "scheme_text",
    "shape_text",
    "size_text",
    "values_text",
]
