"""Tables that lose no value where they do not fit."""

from __future__ import annotations

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def width_of(console: Console, table: Table) -> int:
    """Return the columns that a table takes if nothing is cut and nothing is folded."""
    return Measurement.get(console, console.options.update(max_width=1 << 20), table).maximum


def fitted(console: Console, table: Table) -> RenderableType:
    """Return a table, or a paragraph for each row where the console is too narrow for it.

    A paragraph begins with what is at the left in the table. The other values follow with their
    names.
    """
    if width_of(console, table) <= console.width:
        return table
    parts: list[RenderableType] = []
    for row in zip(*(column.cells for column in table.columns), strict=True):
        cells = list(zip(table.columns, row, strict=True))
        names = [str(cell) for column, cell in cells if column.justify == "left"]
        values = [f"{column.header} {cell}" for column, cell in cells if column.justify != "left"]
        parts.append(Text(" ".join(names), overflow="fold"))
        items = Columns([Text(value, no_wrap=True) for value in values], padding=(0, 2))
        parts.append(Padding(items, (0, 0, 0, 2)))
    if table.caption:
        parts.append(Text(str(table.caption), style="table.caption"))
    return Group(*parts)
