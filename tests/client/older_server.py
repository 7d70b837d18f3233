"""`initserver` of an older version: `python older_server.py SCHEME VERSION FLAGS...`.

Its table lacks a scheme, as the tables of the release before do.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

from initcore.plan import SCHEMES
from initcore.wire import conversion
from initserver.cli import main
from initserver.wire import refusals

scheme, version, *flags = sys.argv[1:]
del SCHEMES[scheme]
wire = conversion._ENUMS["scheme"]
conversion._ENUMS["scheme"] = SimpleNamespace(
    values=[value for value in wire.values if value.name.lower() != scheme],
    values_by_number={n: v for n, v in wire.values_by_number.items() if v.name.lower() != scheme},
    values_by_name={n: v for n, v in wire.values_by_name.items() if n.lower() != scheme},
)
refusals.__version__ = version  # type: ignore[attr-defined]
sys.exit(main(flags))
