"""Numbers on the command line: what click takes for one, but ``nan``."""

from __future__ import annotations

import math
from typing import Any

import click

from gzmqsource._base.deadline import LONGEST


class Number(click.FloatRange):
    """A `click.FloatRange` that refuses ``nan``, which no bound keeps out."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class Seconds(Number):
    """A time; one that is as good as endless is the longest that any timer takes."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        return min(super().convert(value, param, ctx), LONGEST)
