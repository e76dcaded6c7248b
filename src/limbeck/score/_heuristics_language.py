"""Naming the language of a text by script and commonest words: no model, no download.

    language_of("Der Hund ist nicht in dem Haus.")      "de"
    language_of("12 + 5 = 17.")                         ""        too few words to tell
    language_of("这是一个很好的例子")                      "zh"

Of the languages that `score.format` knows, the one with the most of its commonest words in the text, among those whose script
most of the letters are of. A script of one language names it. It is made for texts of a sentence and more: below three common
words in Latin letters there is no answer, and languages it does not know are taken for their neighbours.
"""

from __future__ import annotations

import unicodedata
from collections import Counter

from limbeck.score._format_language import FEW, SCRIPTS, SHARE, TOKEN, WORDS, looks_like

READ = 4000
"""Characters that are looked at, from the beginning."""


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of the language a text is written in, or the empty string where nothing tells."""
    text = unicodedata.normalize("NFC", text[:READ])
    if text.isascii():
        return _by_words(text, "LATIN")
    for code in ("ja", "zh"):  # they share characters: kana decide
        if looks_like(text, code):
            return code
    script = _script_of(text)
    rivals = [code for code, own in SCRIPTS.items() if own == script]
    if not rivals:
        return ""
    return _by_words(text, script) if len(rivals) > 1 else rivals[0]


def _script_of(text: str) -> str:
    letters = Counter(_script(letter) for letter in text if letter.isalpha())
    if not letters:
        return ""
    script, count = letters.most_common(1)[0]
    return script if count / letters.total() >= SHARE else ""


def _by_words(text: str, script: str) -> str:
    tokens = Counter(token.casefold() for token in TOKEN.findall(text))
    counts = {
        code: sum(tokens[word] for word in words if word in tokens)
        for code, words in WORDS.items()
        if SCRIPTS[code] == script
    }
    best = max(counts, key=lambda code: (counts[code], code == "en"), default="")
    return best if best and counts[best] >= (FEW if script == "LATIN" else 1) else ""


def _script(letter: str) -> str:
    return "LATIN" if letter.isascii() else unicodedata.name(letter, "?").split(" ")[0].split("-")[0]
