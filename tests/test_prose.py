import pathlib

import prose
import pytest

pytestmark = pytest.mark.once


def words(text):
    return [found for _, found, _ in prose.complaints(text)]


@pytest.mark.parametrize(
    "sentence",
    [
        "It tells the caller about an error.",
        "The peer is told.",
        "Fixed faults are mended.",
        "No call robs a greenlet of its edge.",
        "The connection is made anew.",
        "Nobody waits for it.",
        "It need not wait.",
        "A control is no reply.",
        "Who asks has a reply.",
        "An error for who asked.",
        "It wakes the greenlets that wait and who send.",
        "Whoever comes first sets it.",
        "What a client sends is bounded.",
        "What is left is dropped.",
        "The source closes, and what is left is dropped.",
        "It sends what it has.",
        "It is slow, because what is queued goes first.",
        "It is slow, because\nwhat is queued goes first.",
        "- One item.\n- What is left is dropped.\n",
        "Shows what it does. What is left is dropped.",
    ],
)
def test_a_sentence_that_reads_like_a_translation_is_found(sentence):
    assert words(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "It reports the error to the caller.",
        "The greenlet that asks has a reply.",
        "The maintainers, who answer within a week, read it.",
        "What does a stop wait for?",
        "What a restart loses\n====================\n\nMessages on their way.",
        "What to do:\n\n- Wait.",
        "It shows what it has lost, and what it has kept.",
        "The log says who was refused.",
        "There is no reply, and it is no longer than a frame.",
        "Ways to tell the causes apart.",
        "It is told to stop.",
        "Call ``tell`` or `nobody`, or see :doc:`anew`.",
        "As in::\n\n    nobody.tell(what)\n\nAnd so on.",
        ".. code-block:: python\n   :caption: nobody.py\n\n   nobody()\n\nAnd so on.",
    ],
)
def test_a_natural_sentence_passes(sentence):
    assert words(sentence) == []


def test_each_word_of_the_list_has_a_hint():
    assert [hint for _, _, hint in prose.complaints("It tells nobody.")] == [
        prose.WORDS[each] for each in prose.WORDS if "tell" in each or "body" in each
    ]


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.py", '"""One.\n\nWhat is two.\n"""\n', [3]),
        ("a.py", "x = 1  # nobody\n#: One\n#: anew.\nnobody = 'a.nobody'\n", [1, 3]),
        ("a.py", "raise ValueError(f'{nobody} is told\\nby nobody at all')\n", [1, 1]),
        ("a.pyx", 'cdef int nobody():\n    """Tell."""\n    # One\n    # anew.\n', [2, 4]),
        ("a.pxi", '"""\n/* Tell. */\nstatic int nobody;\n\n/* One\n   anew. */\n"""\n', [2, 6]),
        ("a.rst", "One\n===\n\n::\n\n   nobody\n\nTwo\nanew.\n", [9]),
        ("CHANGES.rst", "Unreleased\n---\n\n- anew\n\n1.0 (2030)\n---\n\n- anew\n", [4]),
    ],
)
def test_a_place_has_the_line_of_its_file(tmp_path, name, text, lines):
    path = tmp_path / name
    path.write_text(text)
    assert prose.places(path) == sorted(prose.places(path))
    assert [line for line, _, _ in prose.places(path)] == lines


def test_the_pages_and_the_package_are_read():
    read = {str(path.relative_to(prose.PROJECT)) for path in prose.files()}
    assert {"README.rst", "docs/architecture.rst", "gzmqsource/transfer/parts.pxi"} <= read
    assert all(pathlib.Path(path).suffix in {".rst", ".py", ".pyx", ".pxi"} for path in read)
