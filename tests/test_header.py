"""The header of requests: what the protocol page specifies is what is sent."""

import pathlib
import re

import pytest
import zmq

from gzmqsource.workers._envelope import ERROR
from gzmqsource.workers._header import (
    KEY,
    KEY_SIZE,
    MAGIC,
    SIZE,
    Detail,
    Flag,
    Header,
    Keys,
    Kind,
    decode,
    has_header,
)

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "protocol.rst"
KEY_OF_VECTORS = bytes(range(16))

VECTORS = [
    Header(Kind.ASK, KEY_OF_VECTORS),
    Header(Kind.ASK, KEY_OF_VECTORS, Flag.KEEP, attempt=2, left=1500),
    Header(Kind.PING, bytes(16), left=1000),
    Header(Kind.REPLY, KEY_OF_VECTORS, Flag.ROUTED | Flag.KEEP, attempt=2, session=5),
    Header(Kind.REFUSED, KEY_OF_VECTORS, detail=Detail.FULL, session=5),
    Header(Kind.LEAVING, bytes(16), session=5),
    Header(Kind.NOMORE, bytes(16), session=5),
]


def test_the_vectors_of_the_page_are_what_is_encoded():
    vectors = re.findall(r"- ``(a76771[0-9a-f ]+)``", PAGE.read_text())
    assert [header.encode() for header in VECTORS] == [bytes.fromhex(text) for text in vectors]


def test_the_mark_of_an_error_for_a_plain_client_is_the_one_of_the_pages():
    assert f"- ``{ERROR.hex()}``" in PAGE.read_text()
    assert f'``b"\\x15{ERROR[1:].decode()}"``' in PAGE.with_name("errors.rst").read_text()


def test_the_kinds_of_the_page_are_those_that_exist():
    page = PAGE.read_text()
    rows = re.findall(r"^(\d+) +``([A-Z]+)``", page, re.MULTILINE)
    assert [(int(number), name) for number, name in rows] == [
        (kind.value, kind.name) for kind in Kind
    ]


@pytest.mark.parametrize("header", VECTORS)
def test_what_is_encoded_is_decoded(header):
    encoded = header.encode()
    assert (len(encoded), encoded[KEY]) == (SIZE, header.key)
    assert decode(encoded) == header


def test_only_this_version_is_a_header():
    encoded = VECTORS[0].encode()
    assert has_header(encoded)
    assert has_header(zmq.Frame(encoded))
    for other in (
        encoded[:-1],
        encoded + b"x",
        b"\0" + encoded[1:],
        b"",
        b"\xa7gq\x02" + encoded[4:],
    ):
        assert not has_header(other)
    assert len(MAGIC) == 4


def test_no_key_comes_twice():
    keys = Keys()
    made = {keys.next() for _ in range(2000)}
    assert len(made) == 2000
    assert {len(key) for key in made} == {KEY_SIZE}
