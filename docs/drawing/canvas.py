"""Boxes, text and arrows of a diagram, as SVG."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from drawing.palette import FONTS, MODES, Palette

TARGET = pathlib.Path(__file__).parent.parent / "pictures"

#: On a page 400 pixels wide a picture has 360. So text of 13 has 9.5 pixels there.
WIDTH = 490

#: How large a picture is where there is room, over its own units.
ZOOM = 1.25

Point = tuple[float, float]


class Canvas:
    """Collects the elements of one picture, in the colours of one mode."""

    def __init__(self, palette: Palette) -> None:
        self.palette = palette
        self._elements: list[str] = []
        self._colors: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        lines: str,
        *,
        color: str | None = None,
        size: float = 13,
        bold: bool = False,
        align: str = "start",
        mono: bool = False,
    ) -> None:
        """Write lines, the first with its baseline at *y*."""
        weight = ' font-weight="600"' if bold else ""
        family = ' font-family="ui-monospace, Menlo, Consolas, monospace"' if mono else ""
        for number, line in enumerate(lines.split("\n")):
            self._elements.append(
                f'<text x="{x:g}" y="{y + number * size * 1.25:g}" font-size="{size:g}"'
                f' text-anchor="{align}" fill="{color or self.palette.ink}"{weight}{family}>'
                f"{escape(line)}</text>"
            )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: str = "",
        *,
        color: str | None = None,
        filled: bool = False,
        dashed: bool = False,
        size: float = 13,
        bold: bool = True,
    ) -> None:
        """Draw a box around its text: the first line is the name, the others say more of it."""
        palette = self.palette
        stroke = color or palette.faint
        fill = stroke if filled else palette.panel
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        if dashed:
            fill = "none"
        self._elements.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"'
            f' fill="{fill}" stroke="{stroke}" stroke-width="1.5"{dashes}/>'
        )
        if not text:
            return
        name, *more = text.split("\n")
        step = size * 1.25
        first = y + height / 2 + size * 0.36 - len(more) * step / 2
        ink = (palette.paper if palette.paper != "none" else "#131416") if filled else palette.ink
        self.text(x + width / 2, first, name, bold=bold, align="middle", color=ink, size=size)
        for number, line in enumerate(more, 1):
            self.text(
                x + width / 2,
                first + number * step,
                line,
                align="middle",
                color=ink if filled else palette.muted,
                size=size - 1,
            )

    def slots(
        self, x: float, y: float, count: int, full: int, *, color: str, size: float = 14
    ) -> None:
        """Draw a queue: *count* places side by side, of which *full* have a message."""
        for number in range(count):
            fill = color if number >= count - full else self.palette.panel
            self._elements.append(
                f'<rect x="{x + number * (size + 3):g}" y="{y:g}" width="{size:g}"'
                f' height="{size:g}" rx="2" fill="{fill}" stroke="{color}" stroke-width="1.2"/>'
            )

    def arrow(
        self,
        *points: Point,
        color: str | None = None,
        dashed: bool = False,
        width: float = 1.8,
        both: bool = False,
    ) -> None:
        """Draw an arrow along the points."""
        color = color or self.palette.muted
        if color not in self._colors:
            self._colors.append(color)
        end = f"url(#a{self._colors.index(color)})"
        path = " ".join(
            f"{'L' if index else 'M'}{x:g},{y:g}" for index, (x, y) in enumerate(points)
        )
        dashes = ' stroke-dasharray="4 4"' if dashed else ""
        start = f' marker-start="{end}"' if both else ""
        self._elements.append(
            f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"'
            f' stroke-linejoin="round"{dashes} marker-end="{end}"{start}/>'
        )

    def line(
        self, *points: Point, color: str | None = None, width: float = 1.5, dashed: bool = False
    ) -> None:
        path = " ".join(
            f"{'L' if index else 'M'}{x:g},{y:g}" for index, (x, y) in enumerate(points)
        )
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._elements.append(
            f'<path d="{path}" fill="none" stroke="{color or self.palette.faint}"'
            f' stroke-width="{width:g}" stroke-linejoin="round"{dashes}/>'
        )

    def area(self, points: Sequence[Point], color: str) -> None:
        path = " ".join(
            f"{'L' if index else 'M'}{x:g},{y:g}" for index, (x, y) in enumerate(points)
        )
        self._elements.append(f'<path d="{path} Z" fill="{color}" fill-opacity="0.18"/>')

    def dot(self, x: float, y: float, text: str, color: str, radius: float = 11) -> None:
        self._elements.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{color}"/>')
        ink = self.palette.paper if self.palette.paper != "none" else "#131416"
        self.text(x, y + 4.5, text, bold=True, align="middle", color=ink)

    def svg(self, height: float, width: float = WIDTH) -> str:
        """Return the whole picture."""
        markers = "".join(
            f'<marker id="a{index}" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="5.5"'
            f' markerHeight="5.5" orient="auto-start-reverse">'
            f'<path d="M0,0 L10,5 L0,10 Z" fill="{color}"/></marker>'
            for index, color in enumerate(self._colors)
        )
        paper = self.palette.paper
        ground = f'<rect width="100%" height="100%" fill="{paper}"/>\n' if paper != "none" else ""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * ZOOM:g}"'
            f' height="{height * ZOOM:g}" viewBox="0 0 {width:g} {height:g}"'
            f' font-family="{FONTS}">\n<defs>{markers}</defs>\n{ground}'
            + "\n".join(self._elements)
            + "\n</svg>\n"
        )


def draw(name: str, height: float, paint: Callable[[Canvas], None]) -> None:
    """Write a picture for light and one for dark."""
    TARGET.mkdir(exist_ok=True)
    for palette in MODES:
        canvas = Canvas(palette)
        paint(canvas)
        (TARGET / f"{name}{palette.suffix}.svg").write_text(canvas.svg(height))
