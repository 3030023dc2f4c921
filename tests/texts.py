"""The texts that the code marks for translation, found by its syntax tree, and English that a reader would meet."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.docs_pages import ROOT

FOLDERS: Final = ("lifecycle", "resources", "assets", "sensors", "orchestration")
MARKS: Final = {"_": 1, "translatable": 1, "Phrase": 1, "numbered": 2}
PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}")
# Three words of English in a row; single ones are names of jobs, tables, states and products.
SENTENCE: Final = re.compile(r"\b[A-Za-z]{2,}(?:'[a-z]+)?(?:,? [A-Za-z]{1,}(?:'[a-z]+)?){2,}")
# Commands in backquotes, SQL in capitals, paths, options: to be copied.
COPIED: Final = re.compile(r"`[^`]*`|```.*?```|[\w./-]*/[\w./-]+|--[a-z-]+|\b[A-Z]{2,}(?: [A-Z]{2,})+\b", re.DOTALL)


def marked_texts(path: Path) -> Iterator[tuple[str, ...]]:
    """Each text of a file that is marked; of a counted one both forms. AssertionError where something else stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKS:
            texts = node.args[: MARKS[node.func.id]]
            values = [each.value for each in texts if isinstance(each, ast.Constant)]
            if node.func.id in ("_", "Phrase") and not isinstance(texts[0], ast.Constant | ast.JoinedStr | ast.BinOp):
                continue  # a constant that `translatable` took in
            assert len(values) == MARKS[node.func.id], f"{path}:{node.lineno}: a text must stand there itself"
            yield tuple(str(value) for value in values)


def all_marked_texts() -> set[tuple[str, ...]]:
    """Those of all folders that speak to people."""
    paths = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return {text for path in paths for text in marked_texts(path)}


def placeholders(texts: tuple[str, ...]) -> set[str]:
    """Names and forms of what is filled in, such as {count:,}."""
    return set().union(*(PLACEHOLDER.findall(text) for text in texts))


def english_in(text: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """Runs of at least three English words that are left in a text, without what is meant to be copied or `allowed`."""
    for each in allowed:
        text = text.replace(each, " · ")
    return SENTENCE.findall(COPIED.sub(" · ", text))
