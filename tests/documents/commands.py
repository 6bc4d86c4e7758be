"""The commands that the documents tell people to type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FOLDERS_OF_OTHERS = {"tests", "node_modules"}

DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in _FOLDERS_OF_OTHERS for part in path.relative_to(ROOT).parts)
)
"""All documents, relative to the project."""

_RUN = re.compile(r"<!-- run by (tests/\S+\.py)::(test_\w+) -->")
_NOT_RUN = re.compile(r"<!-- not run by a test: \S.* -->")
_FENCE = re.compile(
    r"^(?P<indent> *)```(?:sh|bash|shell|console)\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Block:
    """Commands that stand together."""

    document: Path
    line: int
    commands: str
    """As a shell takes them."""
    test: tuple[str, str] | None
    """The file and the name of the test that runs them."""
    says_why_not: bool


def blocks() -> list[Block]:
    """Every block of commands in every document."""
    return [block for document in DOCUMENTS for block in _blocks_of(document)]


def commands_for(test: str) -> list[str]:
    """The blocks that a test runs, in the order of the documents; those of a translation are the same."""
    return list(dict.fromkeys(block.commands for block in blocks() if block.test and block.test[1] == test))


def _blocks_of(document: Path) -> list[Block]:
    text = (ROOT / document).read_text()
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip().rsplit("\n", 1)[-1].strip()
        run = _RUN.fullmatch(before)
        found.append(
            Block(
                document=document,
                line=text.count("\n", 0, match.start()) + 1,
                commands=re.sub(f"^{match['indent']}", "", match["body"], flags=re.MULTILINE),
                test=(run[1], run[2]) if run else None,
                says_why_not=bool(_NOT_RUN.fullmatch(before)),
            )
        )
    return found
