"""The rules that never wait: passwords in a mapping, keys in a directory, any key."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path

from zmq.auth import load_certificates
from zmq.utils import z85


class Passwords:
    """A rule that compares passwords in a time that reveals nothing about them."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        if not isinstance(passwords, Mapping) or not all(
            isinstance(each, str) for each in (*passwords, *passwords.values())
        ):
            # Without the passwords.
            raise TypeError("passwords=...: a mapping of names to passwords, all str, or a rule")
        self._passwords = {name: password.encode() for name, password in passwords.items()}
        # Compared with the password of an unknown user, so that this takes as long.
        self._nobody = secrets.token_bytes()

    def __call__(self, domain: str, username: str, password: str) -> bool:
        expected = self._passwords.get(username, self._nobody)
        return hmac.compare_digest(expected, password.encode())


class Directory:
    """A rule that accepts the public keys in a directory, as `reload` last read them."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._keys: frozenset[bytes] = frozenset()

    def reload(self) -> None:
        """Read all files, and only then change the accepted keys.

        Raises
        ------
        OSError, ValueError
            It is not a directory, or a file in it cannot be read or has no public key.
        """
        for each in Path(self.location).glob("*.key"):
            if not each.is_file():  # a named pipe would wait for a writer
                raise ValueError(f"{each} is not a file")
        try:
            keys = frozenset(load_certificates(self.location))
        except IndexError:  # pyzmq's, of a line without a "="
            raise ValueError(f"{self.location}: a file has no public key") from None
        for key in keys:
            if not is_key(key):
                raise ValueError(f"{self.location}: {key!r} is not a public key in Z85")
        self._keys = keys

    def __call__(self, domain: str, key: bytes) -> bool:
        return key in self._keys


def any_key(domain: str, key: bytes) -> bool:
    """Accept every key."""
    return True


def is_key(key: bytes) -> bool:
    """Return whether it is a key in Z85."""
    return len(key) == 40 and all(each in z85.Z85CHARS for each in key)
