"""How long a request and its reply take, one after another, and what they cost in CPU."""

from __future__ import annotations

from measure import arguments, by_cell, compare, print_table

CONTENDERS = ["C", "pyzmq", "Source", "zmq.green", "eventlet", "zerorpc"]
CONTENDERS += ["zmq.asyncio", "ZMQStream", "aiozmq"]


def main() -> None:
    chosen = arguments(__doc__)
    transports = ["tcp"] if chosen.short else ["tcp", "ipc", "inproc"]
    cells = [{"transport": transport, "size": 32, "frames": 1} for transport in transports]
    figures = compare("roundtrip", "roundtrip", cells, lambda _: CONTENDERS, chosen)
    rows = []
    for cell, row in by_cell(figures).items():
        green = row["zmq.green"]
        for name, one in row.items():
            for run in one.runs:
                run["time"] = 1 / run["rate"]
            shown = [cell, name, one.shown("time", 1e6, 1)]
            shown.append(f"{row['pyzmq'].median('rate') / one.median('rate'):.2f}")
            for cpu in ("cpu_per_message", "thread_cpu_per_message"):
                if name == "C" and cpu.startswith("thread"):
                    shown += ["", ""]  # it runs in a thread that does not count its own
                else:
                    shown += [one.shown(cpu, 1e6, 1), f"{one.median(cpu) / green.median(cpu):.2f}"]
            rows.append(shown)
    header = ["", "", "us", "of pyzmq", "CPU us", "of zmq.green", "its thread's", "of zmq.green"]
    print_table("REQ/REP round trip", header, rows)


if __name__ == "__main__":
    main()
