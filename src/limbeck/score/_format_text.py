r"""Counting in a text: words, sentences, paragraphs, sections, bullets. No model and no download behind it.

    words("It's 3.5 km.")                  ["It's", "3.5", "km"]
    sentences("Dr. Lee paid 3.5 euros. Why? \"So.\" He left")    4
    blocks("One.\n\nTwo.\n***\nThree.")     ["One.", "Two.\n***\nThree."]     a blank line parts blocks

A sentence ends at `.`, `!`, `?`, `…` or their fullwidth and Devanagari kin, followed by white space or the end; not after a
known abbreviation, an initial, the number of a list item or inside a decimal number. What stands unfinished at the very end is
a sentence too."""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W_]+(?:[.,'’][^\W_]+|-[^\W_]+)*")
"""`don't`, `3.5`, `1,000` and `well-known` are one word each."""
SENTENCE_END = re.compile(r"(?:[.!?…]+[\"'”’)\]*_]*(?=\s|$))|[。！？।]+[\"'”’)\]]*")
_ABBREVIATIONS = """
    mr mrs ms dr prof st mt vs etc e.g i.e cf al fig no vol jr sr inc ltd co corp dept approx est gen
    col sgt rev hon pres gov sen rep a.m p.m u.s u.k u.n ph.d b.sc m.sc jan feb mar apr jun jul aug sep
    sept oct nov dec
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
INITIAL_OR_NUMBER = re.compile(r"(?:^|[\s(\"“])(?P<word>\S+)\.$")
BULLET = re.compile(r"^[ \t]*[*+-][ \t]+\S", re.MULTILINE)


def words(text: str) -> list[str]:
    """Return the words of a text in order."""
    return WORD.findall(text)


def sentences(text: str) -> int:
    """Count the sentences of a text."""
    count, begin = 0, 0
    for found in SENTENCE_END.finditer(text):
        piece = text[begin : found.end()]
        if _goes_on(text, begin, found):
            continue
        count += bool(WORD.search(piece))
        begin = found.end()
    return count + bool(WORD.search(text[begin:]))


def _goes_on(text: str, begin: int, found: re.Match[str]) -> bool:
    """Say whether a full stop ends no sentence: after an abbreviation, an initial or the number of a list item."""
    if not found[0].startswith(".") or len(found[0].rstrip("\"'”’)]*_")) > 1:
        return False
    last = INITIAL_OR_NUMBER.search(text[max(begin, found.start() - 40) : found.start() + 1])
    if last is None:
        return False
    word = last["word"].strip("(\"“'*_").casefold()
    lone = text[text.rfind("\n", 0, found.start()) + 1 : found.start()].strip(" \t*_(")
    listed = lone.casefold() == word and bool(re.fullmatch(r"\d{1,3}|[a-z]", word))
    return word in ABBREVIATIONS or bool(re.fullmatch(r"[a-hj-z]", word)) or listed


def blocks(text: str) -> list[str]:
    """Return the parts of a text between blank lines."""
    return [block.strip() for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")) if block.strip()]


def bullets(text: str) -> int:
    """Count Markdown list items that begin with `*`, `-` or `+` and a blank; a line of only stars is a rule, not an item."""
    return len(BULLET.findall(re.sub(r"^[ \t]*([*-])(?:[ \t]*\1){2,}[ \t]*$", "", text, flags=re.MULTILINE)))


def unfenced(text: str) -> str:
    """Return what stands in the one code fence that is all of the text, or the text itself."""
    found = re.fullmatch(r"\s*```[\w+-]*[ \t]*\n(.*?)\n?```\s*", text, re.DOTALL)
    return found[1] if found and "```" not in found[1] else text.strip()
