r"""Finding the program in a response.

    "Sure:\n```python\ndef f(x):\n    return x\n```\nTry f(2)."        def f(x): ...
    "First try:\n```python\ndef f(x): …\n```\nBetter:\n```python\ndef f(x): …\n```"       the last one that defines f
    "```python\nprint(f(2))\n```"                                       None: it does not define f

The rules: what stands in a reasoning block does not count. Of the fenced blocks (marked `python`, `py`, `python3` or not at
all) those count that define the wanted name at the left margin; of several different ones the last, because a response that
corrects itself puts the correction behind. All hidden tests are run on that one program, so naming several gains nothing.
Without a fence the program begins at the first line of code and ends where prose begins again. A fence that is never closed is
a response that was cut off: it counts as it stands, and will mostly not run."""

from __future__ import annotations

import re

from limbeck.score._answers import visible

FENCE = re.compile(
    r"^[ \t]*```[ \t]*(?P<mark>[\w+.-]*)[^\n`]*\n(?P<code>.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
PYTHON = frozenset({"", "py", "python", "python3", "py3"})
CODE_LINE = re.compile(
    r"(?:from\s+[\w.]+\s+import\b|import\s+\w|(?:async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[:(]|@\w|#|if\s.*:|for\s.*:|while\s.*:|try:|with\s.*:"
    r"|else:|elif\s.*:|except\b.*:|finally:|return\b|print\("
    r"|[\w.\[\], ]+\s*[-+*/|&]?=[^=]|[)\]}\"']|\w+(?:\.\w+)*\(.*\)\s*(?:#.*)?$)"
)
FIRST_LINE = re.compile(r"(?:from\s+[\w.]+\s+import\b|import\s+\w|(?:async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[:(]|@\w)")
MAX_RESPONSE = 200_000
"""Characters; a longer response holds no program that is worth running."""


def program_in(response: str, name: str | None) -> str | None:
    """Return the source of the program, which must define `name` if one is given; None if there is none."""
    text = visible(response)
    if text is None or len(text) > MAX_RESPONSE:
        return None
    blocks = fenced(text)
    if blocks:
        fitting = [block for block in blocks if name is None or defines(block, name)]
        return fitting[-1] if fitting else None
    source = _unfenced(text)
    return source if source is not None and (name is None or defines(source, name)) else None


def fenced(text: str) -> list[str]:
    """Return the fenced blocks that may be Python, without those that are empty."""
    found = [match for match in FENCE.finditer(text.replace("\r\n", "\n")) if match["mark"].lower() in PYTHON]
    return [code for match in found if (code := match["code"].strip("\n")).strip()]


def defines(source: str, name: str) -> bool:
    """Say whether a source defines a name at its left margin: a function, a class, or an assignment."""
    word = re.escape(name)
    return bool(
        re.search(
            rf"^(?:(?:async[ \t]+)?def[ \t]+{word}[ \t]*\(|class[ \t]+{word}\b|{word}[ \t]*(?::[^=\n]+)?=[^=])",
            source,
            re.MULTILINE,
        )
    )


def continued(prompt: str, response: str, name: str) -> str | None:
    """Return the program that a bare function body completes, as in HumanEval: prompt and body; None if it is no such body."""
    text = visible(response)
    if text is None or len(text) > MAX_RESPONSE:
        return None
    blocks = fenced(text)
    body = blocks[-1] if blocks else text.strip("\n")
    first = next((line for line in body.splitlines() if line.strip()), "")
    if not first[:1].isspace():  # prose, or another function
        return None
    return f"{prompt.rstrip()}\n{body}\n" if defines(prompt, name) else None


def before(prompt: str, name: str) -> str:
    """Return what a prompt gives before the function to write: imports and helpers, which a response need not repeat."""
    found = list(re.finditer(rf"^(?:async[ \t]+)?def[ \t]+{re.escape(name)}[ \t]*\(", prompt, re.MULTILINE))
    return prompt[: found[-1].start()] if found else ""


def _unfenced(text: str) -> str | None:
    """Return the code of a response without fences: from its first line of code to where prose begins again."""
    lines = text.replace("\r\n", "\n").split("\n")
    start = next((at for at, line in enumerate(lines) if FIRST_LINE.match(line)), None)
    if start is None:
        return None
    end = next((at for at in range(start, len(lines)) if _is_prose(lines[at])), len(lines))
    return "\n".join(lines[start:end]).strip("\n")


def _is_prose(line: str) -> bool:
    return bool(line) and not line[0].isspace() and not CODE_LINE.match(line)
