"""Draw the speeds that were measured, from the runs that are kept, into docs/benchmarks/."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drawing.palette import Palette
from measure import cell_name
from panels import TARGET, bars, footer, picture, repeats
from runs import Record, newest

SMALL_MESSAGES = {"transport": "tcp", "size": 32}


def of_cell(records: list[Record], **cell: Any) -> list[Record]:
    return [one for one in records if cell.items() <= one.cell.items()]


def row(one: Record, figure: str, factor: float) -> tuple[str, list[float]]:
    return one.contender, repeats(one, figure, factor)


def ranked(records: list[Record], figure: str, *, best: int = 1) -> list[str]:
    """Return the contenders, with the largest value first; with the least if *best* is -1."""
    return [one.contender for one in sorted(records, key=lambda one: -best * one.median(figure))]


def draw_rates() -> None:
    for question, title in (("receive", "Receiving"), ("send", "Sending")):
        records = of_cell(newest(question), **SMALL_MESSAGES)
        forms = sorted({one.cell["frames"] for one in records})
        order = ranked(of_cell(records, frames=forms[0]), "rate")

        def paint(
            panels: Sequence[Any],
            palette: Palette,
            records: list[Record] = records,
            forms: list[int] = forms,
            order: list[str] = order,
        ) -> None:
            for axes, frames in zip(panels, forms, strict=True):
                rows = {one.contender: one for one in of_cell(records, frames=frames)}
                bars(
                    axes,
                    palette,
                    [row(rows[name], "rate", 1e-6) for name in order],
                    title=f"{frames} frame" + "s" * (frames > 1),
                    unit="million messages/s",
                )

        picture(
            question,
            f"{title} 32-byte messages over tcp",
            footer(records, "rate"),
            paint,
            columns=len(forms),
            height=95 + 20 * len(order),
        )


def draw_sizes() -> None:
    records = of_cell(newest("receive"), transport="tcp", frames=1)
    sizes = sorted({one.cell["size"] for one in records})
    if len(sizes) < 2:
        return

    def paint(panels: Sequence[Any], palette: Palette) -> None:
        for axes, size in zip(panels, sizes, strict=True):
            rows = {one.contender: one for one in of_cell(records, size=size)}
            bars(
                axes,
                palette,
                [
                    row(rows[name], "rate", size / 1e6)
                    for name in ("C", "pyzmq", "Source", "zmq.green")
                ],
                title=cell_name({"transport": "", "size": size, "frames": 1}).lstrip(", "),
                unit="MB/s",
            )

    picture(
        "sizes",
        "Receiving over tcp, by the size of a message",
        footer(records, "rate"),
        paint,
        rows=2,
        columns=2,
        height=350,
    )


def draw_roundtrip() -> None:
    records = of_cell(newest("roundtrip"), transport="tcp")
    order = ranked(records, "rate")
    rows = {one.contender: one for one in records}

    def paint(panels: Sequence[Any], palette: Palette) -> None:
        times = [
            (name, sorted(1e6 / rate for rate in rows[name].figures["rate"])) for name in order
        ]
        bars(panels[0], palette, times, title="Time", unit="µs")
        cpu = [row(rows[name], "cpu_per_message", 1e6) for name in order]
        bars(panels[1], palette, cpu, title="CPU, all threads", unit="µs")

    picture(
        "roundtrip",
        "A REQ/REP round trip over tcp",
        footer(records, "rate"),
        paint,
        columns=2,
        height=95 + 20 * len(order),
    )


def draw_fairness() -> None:
    questions = ("Source", "zmq.green", "zmq.asyncio")
    records = [one for name in questions for one in newest(f"fairness {name}")]

    def paint(panels: Sequence[Any], palette: Palette) -> None:
        rows = [row(one, "tick_99", 1e3) for one in records]
        bars(panels[0], palette, rows, unit="ms late (99 % of the ticks), less is better")

    picture(
        "fairness",
        "A 1 ms ticker beside a flooded socket",
        footer(records, "tick_99"),
        paint,
        height=75 + 24 * len(records),
    )


def draw_pressure() -> None:
    records = newest("pressure")

    def paint(panels: Sequence[Any], palette: Palette) -> None:
        axes = panels[0]
        for one in records:
            assert one.series is not None
            held = one.series["held"]
            times = [one.series["seconds"] * index for index in range(len(held))]
            color = palette.of(one.contender)
            axes.plot(times, held, color=color, linewidth=2.5)
            early = len(held) // 4
            axes.annotate(
                f"{one.contender}: {max(held):,}",
                (times[early], held[early]),
                xytext=(6, 6),
                textcoords="offset points",
                color=color,
                weight="bold",
            )
        axes.set(xlabel="seconds", ylabel="messages held")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlim(0)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
        axes.grid(axis="y")

    picture(
        "pressure", "A server that cannot keep up", footer(records, "most_held"), paint, height=220
    )


def main() -> None:
    draw_rates()
    draw_sizes()
    draw_roundtrip()
    draw_fairness()
    draw_pressure()
    print(f"drawn into {TARGET}")


if __name__ == "__main__":
    main()
