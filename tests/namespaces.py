"""Hosts on one machine: network namespaces, joined by links that can be cut."""

import contextlib
import functools
import os
import pathlib
import subprocess

from helpers import process_of


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)


@functools.cache
def why_not():
    """Why no namespaces can be made here; None if they can."""
    name = f"gz{os.getpid()}try"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except FileNotFoundError:
        return "network namespaces need iproute2"
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.strip()}"
    return None


class Star:
    """A host in the middle, and others with a link to it each.

    The addresses are those that RFC 5737 keeps for documentation.
    """

    def __init__(self, *others):
        self._others = others
        self._names = {name: f"gz{os.getpid()}{name}" for name in ("middle", *others)}

    def __enter__(self):
        with contextlib.ExitStack() as made:
            for name in self._names.values():
                _ip("netns", "add", name)
                made.callback(_ip, "netns", "delete", name)
                _ip("-n", name, "link", "set", "lo", "up")
            for number, other in enumerate(self._others):
                here, there = self._names["middle"], self._names[other]
                near, far = self.link(other), "middle"
                _ip("-n", here, "link", "add", near, "type", "veth", "peer", far, "netns", there)
                for host, device, end in ((here, near, 1), (there, far, 2)):
                    address = f"198.51.100.{4 * number + end}/30"
                    _ip("-n", host, "address", "add", address, "dev", device)
                    _ip("-n", host, "link", "set", device, "up")
            self._made = made.pop_all()
        return self

    def __exit__(self, *_):
        self._made.close()

    def link(self, other):
        """The middle's end of the link to another host."""
        return f"to-{other}"

    def middle_seen_from(self, other):
        """The address of the middle, on the link to another host."""
        return f"198.51.100.{4 * self._others.index(other) + 1}"

    def give_name(self, name, others):
        """Have a name stand for other hosts in what runs in the middle from now on."""
        folder = pathlib.Path("/etc/netns", self._names["middle"])
        folder.mkdir(parents=True)
        self._made.callback(os.removedirs, folder)
        hosts = folder / "hosts"  # `ip netns exec` puts it in place of /etc/hosts
        addresses = [f"198.51.100.{4 * self._others.index(other) + 2}" for other in others]
        hosts.write_text("".join(f"{address} {name}\n" for address in addresses))
        self._made.callback(hosts.unlink)

    def cut(self, other):
        """Unplug a link: what is sent is lost, and no connection ends."""
        _ip("-n", self._names["middle"], "link", "set", self.link(other), "down")

    def heal(self, other):
        """Plug a link in again."""
        _ip("-n", self._names["middle"], "link", "set", self.link(other), "up")

    def process(self, host, *command):
        """Run a program on a host, as `helpers.process_of` does."""
        return process_of("ip", "netns", "exec", self._names[host], *command)
