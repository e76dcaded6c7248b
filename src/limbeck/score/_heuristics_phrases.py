"""Phrases that give a text away: refusals, the model speaking of itself, chat filler; and ends that are none.

    refusal("I'm sorry, but I can't help with that.")              "i'm sorry, but i can't"
    refusal("I'm sorry to hear that your dog is ill.")             None         sympathy is no refusal
    self_reference("As an AI language model, I have no home.")     "as an ai language model, i"
    truncated("The three steps are first to open the")             "ends in 'the'"

A refusal is looked for in the first 240 characters of a response, where it stands if it is one. Everything is case-blind and
reads straight and curly apostrophes alike. Lists of this kind are never complete, so each step takes more phrases of the user's
own."""

from __future__ import annotations

import re

OPENING = 240
"""Characters at the beginning of a response in which a refusal is looked for."""

_VERBS = (
    r"(?:help|assist|answer|provide|fulfill?|comply|do|complete|create|generate|write|give|offer|support|engage|"
    r"discuss|share|access|open|browse|view|see|perform|process|continue|respond|summari[sz]e|translate|execute)"
)
_CAN_NOT = (
    r"(?:can(?:no|')t|can not|am (?:not able|unable) to|'m (?:not able|unable) to|won't|will not|am not going to)"
)
REFUSALS = re.compile(
    r"|".join(
        (
            rf"\b(?:sorry|apologi[sz]e|regret)\b[^.!?\n]{{0,60}}?\bi {_CAN_NOT}",
            r"\b(?:sorry|apologi[sz]e|regret)\b[^.!?\n]{0,60}?\bi'm (?:not able|unable) to",
            rf"(?:^|[.!?\n]\s*|,\s*)(?:unfortunately,? )?i {_CAN_NOT} {_VERBS}\b",
            rf"(?:^|[.!?\n]\s*|,\s*)(?:unfortunately,? )?i'm (?:not able|unable) to {_VERBS}\b",
            r"\bi (?:must|have to) (?:decline|refuse)\b",
            r"\bi (?:decline|refuse) to\b",
            r"\b(?:sorry|apologi[sz]e)\b[^.!?\n]{0,40}\b(?:this|the|your) (?:question|request|task|prompt|instruction)\b"
            r"[^.!?\n]{0,30}\b(?:not clear|unclear|incomplete|can(?:no|')t be)",
            r"\b(?:against|violates?) (?:my|our|openai's) (?:guidelines|programming|policy|policies|content policy)\b",
        )
    ),
    re.IGNORECASE,
)
SELF = re.compile(
    r"|".join(
        (
            r"\bas an? (?:ai|artificial intelligence|(?:large |ai )?language model|ai assistant|virtual assistant)"
            r"(?: language)?(?: model| assistant| chatbot| system)?,? (?:i\b|i'm\b|my\b|it is not|it's not)",
            r"\bi(?: am|'m) (?:just |only |merely )?an? (?:ai|artificial intelligence|(?:large )?language model)\b",
            r"\b(?:trained|developed|created) by openai\b",
            r"\bmy (?:knowledge|training) (?:cut-?off|data)\b",
            r"\bmy last (?:knowledge )?update\b",
            r"\bi (?:do not|don't) have (?:personal|real-time|access to (?:real-time|the internet|current))\b",
        )
    ),
    re.IGNORECASE,
)
FILLER = re.compile(
    r"^\s*(?:sure(?:ly)?|certainly|of course|absolutely|great question|happy to help)\b[^\n]{0,80}[:!.]"
    r"|\b(?:i hope (?:this|that) helps|let me know if you (?:have|need|would like)|feel free to (?:ask|reach out)|"
    r"is there anything else)\b[^\n]{0,120}\s*$",
    re.IGNORECASE,
)
FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
OPEN = (
    "the a an and or but nor of to at for with from into as than who whose if because while their its our your we they he she "
    "which where"
)
MAY = (
    "on in by so not this that these those can could should may might must will would do does is are was were be been have has "
    "had i my her his such very when"
)
OPEN_WORDS = frozenset(OPEN.split())
"""Words with which no English text ends that is finished."""
MAY_END = frozenset(MAY.split())
"""Words that do end short sentences and titles ("Show him in"): they need a full line of prose before them."""
ENDS = tuple(".!?…:;)]}>\"'”’»`*_|~$。！？；：）】」』،؟।॥%/\\")
"""What the last character of a finished text may be, beside a letter or a digit of a short line."""
CLOSING = re.compile(
    r"#|\b(?:yours|sincerely|best|kind(?:est)?|warm(?:est|ly)?|love|regards|respectfully|thanks?)\b|"
    r"\bwith (?:\w+ )?(?:love|regards|respect|gratitude|appreciation|thanks|hope|wishes)\b",
    re.IGNORECASE,
)
"""How a letter's end or a row of hashtags begins, which has no full stop."""
SIGNED = 60
"""Characters at the end of a line in which such a beginning is looked for."""
MARKER = re.compile(r"\s*(?:[-*•#>|]|\d+[.)])\s*")
"""How an item of a list, a heading or a row of a table begins."""
CODE = re.compile(r"[=(){}<>]|^\s*(?:return|import|using|let|var|const)\b")
"""What a line of a program has and prose has not."""
PROSE = 8
"""Words of a last line from which on it counts as prose, which ends in a mark."""
FEW = 2
"""Words of a last sentence that stands behind others on its line from which on it needs a mark."""


def refusal(text: str) -> str | None:
    """Return the words in which a response refuses, or None."""
    return _first(REFUSALS, _plain(text).strip()[:OPENING])


def self_reference(text: str) -> str | None:
    """Return the words in which a text speaks of its author as a model, or None."""
    return _first(SELF, _plain(text))


def filler(text: str) -> str | None:
    """Return chat filler at the beginning or the end ("Sure! Here is ...", "I hope this helps"), or None."""
    return _first(FILLER, _plain(text))


def truncated(text: str, finish: str = "") -> str | None:
    """Say how one can see that a text breaks off, or return None; `finish` is how its sampling ended, where that is known."""
    if finish == "length":
        return "the sampling ended at the token limit"
    text = text.rstrip()
    if not text:
        return None
    if len(FENCE.findall(text)) % 2:
        return "a code fence is open"
    return None if FENCE.match(text.rsplit("\n", 1)[-1]) else _broken_line(text)


def _broken_line(text: str) -> str | None:
    last = re.split(r"\n|(?<=[.!?])\s", text)[-1].strip()
    if last.endswith((",", "(", "[", "{", " -", " –", "—", "=", "+", "&")):
        return f"ends in '{last[-1]}'"
    if last.endswith(";") and len(last.split()) >= PROSE and not CODE.search(last):
        return "ends in ';'"
    if last.endswith(ENDS) or not last[-1].isalpha():
        return None
    words = last.split()
    ending = words[-1].lower()
    alone = len(words) == 1 and last != text  # a last line or sentence of one word
    if ending in OPEN_WORDS or (ending in MAY_END and (len(words) >= PROSE or alone)):
        return f"ends in '{ending}'" if len(words) > 1 or alone else None
    return "its last sentence has no end" if _unended(text, last, len(words)) else None


def _unended(text: str, last: str, words: int) -> bool:
    """Say whether a last sentence without a mark is odd in this text: a list, a title, a sum or a poem needs none."""
    *before, line = text.split("\n")
    marker = MARKER.match(line)
    if (
        (marker and marker[0].strip() in ("#", ">", "|"))
        or CLOSING.search(line[-SIGNED:])
        or "=" in last
        or last[0] in "-–—~"
    ):
        return False
    own = line[marker.end() :] if marker else line
    if own.strip() != last:  # sentences before it on the same line have an end
        return words >= FEW or len(own.split()) > PROSE
    peers = [other.rstrip() for other in before if bool(MARKER.match(other)) == bool(marker)]
    prose = [other for other in peers if len(other.split()) >= PROSE]
    enough = 2 if marker else 1  # of items one alone says nothing about the next
    return words >= (FEW if marker else PROSE) and len(prose) >= enough and all(other.endswith(ENDS) for other in prose)


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return " ".join(found[0].split()).lower() if found else None


def _plain(text: str) -> str:
    return text.replace("’", "'").replace("‘", "'")
