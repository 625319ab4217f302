"""Whether the pages, docstrings, comments and messages are in idiomatic English: ``make lint``.

It finds words and clauses that read like a translation, each with a hint. The exit status is 1 if
there are any. Literals and blocks of code are not read.
"""

import ast
import pathlib
import re
import sys
import tokenize

PROJECT = pathlib.Path(__file__).parent.parent

#: Words, as regular expressions, and the words to use in their place.
LIST = pathlib.Path(__file__).with_suffix(".txt").read_text("utf-8")
WORDS = dict(line.split(" → ") for line in LIST.splitlines())

NOUN = "put a noun before the clause: the greenlet that, the messages that"

#: What makes a clause later in the sentence an indirect question.
ASKING = re.compile(
    r"(?i)\b(what|who|which|how|why|where|when|whether|(say|see|show|know|describe|decide|explain"
    r"|list|find|name|ask|note|define|depend|learn|record|test|log|print|report|answer)(s|ing)?)\b"
)

#: Verbs whose object is a thing: the clause after them is not an indirect question.
HANDLING = (
    "drops?|loses?|sends?|finish|finishes|keeps?|takes?|reads?|closes?|removes?|receives?|drains?"
    "|holds?|has|have|frees?|releases?|bounds?|counts?|handles?|queues?|wakes?|serves?|process"
)

#: Clauses without a noun before them; those *asked* are fine in an indirect question.
CLAUSES = (
    re.compile(r"\b(Who|What)\b(?! to\b)"),
    re.compile(r"\b(that|if|while|when|because|until|unless|where|since|so|for) wh(at|o)\b"),
    re.compile(r"\b(to|of|by|with|from|than|as|only|all|are|is) who\b"),
    re.compile(r"(?P<asked>[,;:] |\b(and|but|or|nor) )what\b(?! to\b)"),
    re.compile(r"(?P<asked>\b(and|but|or|nor) )who\b"),
    re.compile(rf"\b({HANDLING}) what\b"),
)

#: A question, a line before a list, and a cell of a table.
FINE = re.compile(r".*[?:]$|(\* )?- What [^.]*$")

#: The parts of a page that are not prose, which become empty lines.
DIRECTIVE = r"^( *)\.\. (?!note|warning|tip|glossary|list-table|admonition).*\n(?:(?:\1 +\S.*)?\n)*"
LITERAL_BLOCK = r"(?<=::\n)((?: *\n)+( +)\S.*\n(?:(?:\2.*)?\n)*)"
HEADING = r"^.*\S.*\n *([-=~^\"])\1{2,} *$"
CODE = [re.compile(f"(?m){each}") for each in (DIRECTIVE, LITERAL_BLOCK, HEADING, r"^ *:\w+:.*")]
#: Literals and roles, which stand for a noun.
LITERAL = re.compile(r"``(?s:.+?)``|:[\w:]+:`[^`]+`|`[^`]+`_?|<[^<>\s]+>")
SENTENCE = re.compile(r"(?s)\S.*?(?:[.?!](?=\s)|\n\s*\n|\n(?=\s*(?:[-*#]|\d+\.) )|\Z)")


def without_code(text):
    for code in CODE:
        text = code.sub(_lines, text)
    return LITERAL.sub(lambda found: re.sub(r"\S", "x", found[0]), text)


def prose_of(path):
    """Yield the pieces of prose of a file, with the line on which each begins."""
    text = path.read_text()
    if path.suffix == ".py":
        yield from comments(path)
        yield from strings(ast.parse(text))
    elif path.suffix == ".rst":
        yield 1, re.split(r"\n\d+\.\d+.*\n-", text)[0] if path.name == "CHANGES.rst" else text
    else:
        for found in re.finditer(r'"""(?s:.*?)"""|/\*(?s:.*?)\*/|(?m:^ *#.*\n)+', text):
            in_c = re.search(r"static |#define", found[0])
            piece = re.sub(r"(?s)\*/.*?(/\*|\Z)", _lines, found[0]) if in_c else found[0]
            yield 1 + text.count("\n", 0, found.start()), re.sub(r"(?m)^ *#:?", "", piece)


def _lines(found):
    return "\n" * found[0].count("\n")


def comments(path):
    """Yield the comments of a module; those of consecutive lines are one piece."""
    pieces: list[tuple[int, int, list[str]]] = []
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                line, column = token.start
                if not pieces or pieces[-1][:2] != (line - len(pieces[-1][2]), column):
                    pieces.append((line, column, []))
                pieces[-1][2].append(token.string.lstrip("#:! "))
    yield from ((line, "\n".join(texts)) for line, _, texts in pieces)


def strings(node):
    """Yield the docstrings and messages of a module: the strings with a few words."""
    if isinstance(node, ast.JoinedStr):
        parts = [str(each.value) if isinstance(each, ast.Constant) else "x" for each in node.values]
        yield node.lineno, "".join(parts).replace("\n", " ")
    elif not isinstance(node, ast.Constant):
        for child in ast.iter_child_nodes(node):
            yield from strings(child)
    elif isinstance(node.value, str) and node.value.count(" ") > 1:
        is_short = node.lineno == node.end_lineno
        yield node.lineno, node.value.replace("\n", " ") if is_short else node.value


def complaints(text):
    """Yield the line, from 0, the words and the hint of each place in a piece of prose."""
    text = without_code(text)
    for words, hint in WORDS.items():
        for found in re.finditer(rf"(?i)\b({words})\b", text):
            yield text.count("\n", 0, found.start()), " ".join(found[0].split()), hint
    for sentence in SENTENCE.finditer(text):
        flat = re.sub(r"\s", " ", sentence[0])  # of the same length
        for clause in () if FINE.match(flat.strip()) else CLAUSES:
            for found in clause.finditer(flat):
                if "asked" not in clause.groupindex or not ASKING.search(flat[: found.start()]):
                    yield text.count("\n", 0, sentence.start() + found.start()), found[0], NOUN


def files():
    for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGES"):
        yield PROJECT / f"{name}.rst"
    for folder in ("docs", "changes.d", "examples", "gzmqsource"):
        for path in sorted((PROJECT / folder).rglob("*")):
            if path.suffix in (".rst", ".py", ".pyx", ".pxi") and path.name != "conf.py":
                yield path


def places(path):
    """Return the line, the words and the hint of each place in a file, in order."""
    pieces = [(line, complaints(text)) for line, text in prose_of(path)]
    return sorted({(line + below, *rest) for line, found in pieces for below, *rest in found})


def main():
    count = 0
    for path in files():
        for line, words, hint in places(path):
            print(f"{path.relative_to(PROJECT)}:{line}: {words!r}: {hint}")
            count += 1
    print(f"the prose has {count} of the words and clauses of checks/prose.txt")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
