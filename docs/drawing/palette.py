"""The colours of all pictures, for light and for dark pages.

The hues are those of Okabe and Ito, which people with any kind of colour blindness can distinguish.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Which hue each contender of the benchmarks has, in every picture. The others are grey.
CONTENDERS = {
    "Source": "vermilion",
    "Source, unbounded": "vermilion",
    "Requester": "vermilion",
    "Responder": "vermilion",
    "Broker": "vermilion",
    "Proxy": "vermilion",
    "handler": "vermilion",
    "Source, pulled": "orange",
    "pulled": "orange",
    "spawn=20": "sky",
    "Pool(20)": "blue",
    "gzmqsource.green": "purple",
    "green recv": "purple",
    "pyzmq": "blue",
    "zmq.green": "green",
    "C": "muted",
    "C program": "muted",
}


@dataclass(frozen=True)
class Palette:
    """The colours of one mode."""

    suffix: str  #: of the file's name
    paper: str  #: the background; ``none`` where the page's own shows
    ink: str  #: text and important lines
    muted: str  #: text that comes second, and arrows
    faint: str  #: lines that only separate
    panel: str  #: the inside of a box
    grey: str  #: contenders without a hue
    vermilion: str
    orange: str
    green: str
    sky: str
    blue: str
    purple: str

    def of(self, contender: str) -> str:
        """Return the colour of a contender."""
        return str(getattr(self, CONTENDERS.get(contender, "grey")))


LIGHT = Palette(
    suffix="",
    paper="#ffffff",
    ink="#1f2328",
    muted="#57606a",
    faint="#d0d7de",
    panel="#f3f5f8",
    grey="#b3bbc4",
    vermilion="#d55e00",
    orange="#e69f00",
    green="#009e73",
    sky="#56b4e9",
    blue="#0072b2",
    purple="#b8578c",
)

DARK = Palette(
    suffix="-dark",
    paper="none",
    ink="#e6edf3",
    muted="#a3adb8",
    faint="#444c56",
    panel="#22272e",
    grey="#5c6773",
    vermilion="#f0803c",
    orange="#f2b84b",
    green="#33c399",
    sky="#8fd0f7",
    blue="#4ba3e0",
    purple="#dd8fba",
)

MODES = (LIGHT, DARK)

#: Whatever the reader's system has; a picture brings no font along.
FONTS = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
