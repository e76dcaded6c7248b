"""Finding the final answer of a response: one answer, or none.

    "12 + 5 = 17.\\nAnswer: 17"                        -> "17"
    "<think>Is it 3? \\\\boxed{3}</think> \\\\boxed{4}"    -> "4"       what stands in the reasoning block does not count
    "It is \\\\boxed{3} ... so it is \\\\boxed{4}"         -> None      several different candidates are no answer
    "She sells 9 eggs. So she makes $18 a day."       -> "$18"     the last sentence names one number

A grader that takes any matching candidate can be gamed by naming several; one that takes the last can be gamed by a
hedge. So every explicit statement counts (a box, `#### 18`, `A: 18`, `Answer: 18`, "the answer is 18", answer tags),
all of them must agree, and a negated one (`it is not \\boxed{3}`) is no statement. Without any, the last sentence must hold
exactly one number, or the whole response must be short.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from limbeck.score._numbers import quantity
from limbeck.score._plain import plain, wordy

MAX_ANSWER = 200
"""Characters; what is longer is no final answer."""
MAX_WORDS = 6
"""Words of a final answer in words."""

TAGS = "think|thinking|thought|reasoning|scratchpad"
CLOSED = re.compile(rf"</(?:{TAGS})>", re.IGNORECASE)
OPENED = re.compile(rf"<(?:{TAGS})>", re.IGNORECASE)
BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
HASHES = re.compile(r"^[ \t]*####(?!#)[ \t]*(?P<span>[^\n]*)", re.MULTILINE)
LETTER = re.compile(r"^[ \t>*]*A:[ \t*]*(?P<span>[^\n]*)", re.MULTILINE)
OPTION = re.compile(r"^[ \t>*(]*B[:).]", re.MULTILINE)
"""Where there is a B, `A: 10` may be the first of several options."""
TAGGED = re.compile(r"<answer>(?P<span>(?:(?!<answer>).)*?)</answer>", re.IGNORECASE | re.DOTALL)
STATED = re.compile(
    r"\banswer(?:[ \t]+to[ \t][^.:\n]{1,60}?|[ \t]+here)?[*_ \t]*"
    r"(?::|(?<=final answer )=|\bis\b[ \t]*(?:therefore|thus|simply)?[ \t]*:?|\bwould be\b|\bmust be\b)"
    r"[*_]*\s{0,20}(?P<span>[^\n]*)"
    r"|^[ \t#*]*final answer[ \t*:]*\n\s{0,20}(?P<below>[^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
NEGATED = re.compile(
    r"(?:\bnot|n't|\bnever|\bincorrect(?:ly)?|\bwrong(?:ly)?|\binstead of|\brather than)[ \t$(*:\\]*\Z", re.IGNORECASE
)
NEGATION = re.compile(r"\b(?:not|never|neither|nor|cannot)\b|n't\b", re.IGNORECASE)
STARTS_NEGATED = re.compile(r"(?:not|never|n't|neither|unlikely|wrong|incorrect|impossible to)\b", re.IGNORECASE)
SENTENCE_END = re.compile(
    r"[.!?;](?=\s|$)|,\s+(?!and\b|or\b)(?=[A-Za-z]{2})|\s(?=(?:because|since|which|where|so|as)\b)"
)
SENTENCE = re.compile(r"(?<=[.!?])\s+")
CALCULATION = re.compile(r"<<[^<>\n]{0,200}>>")
NUMBER = re.compile(
    r"(?<![0-9A-Za-z_.])[-−]?[$£€¥]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?:\s?/\s?[0-9]+)?%?(?![0-9A-Za-z_])"
)
EQUATION = re.compile(
    r"(?=[^=]*[0-9)]\s*[-+*/x×÷·−]\s*[($0-9])[-+*/x×÷·−0-9.,$() ]{1,200}="
    r"\s*(?P<result>[-−]?\$?[0-9][0-9,]*(?:\.[0-9]+)?)"
)
"""`12 + 5 = 17`: its answer is 17; `3 = 4` is two answers."""
FORMULA = re.compile(r"\$\$?(?P<dollar>[^$\n]{1,200})\$\$?|\\\((?P<round>.{1,200}?)\\\)|\\\[(?P<square>.{1,200}?)\\\]")
BEYOND = re.compile(r"\\[A-Za-z]|[\^±∓<>≤≥≠]|\+-|!=")
"""What makes a number part of something else: 25π, √5, x > 5, ±3."""
ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[A-Za-z]+\}(?:\{[lcr| ]*\})?")
JOINS = re.compile(r"(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])")
ALTERNATIVES = re.compile(r"\b(?:or|either|between)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A place where the response says what the answer is."""

    span: str
    begin: int
    end: int
    boxed: bool = False
    heading: bool = False
    """Written after `####`, which is also a Markdown heading: only a number there is an answer."""


def find(response: str, agree: Callable[[str, str], bool], *, truncated: bool = False) -> str | None:
    """Return the one final answer of a response, or None.

    `agree` compares two answers; `truncated` says that the response was cut off, so that a statement at its very end
    may lack its last digits and the last line is no conclusion.
    """
    text = visible(response)
    if text is None or not text.strip():
        return None
    text = CALCULATION.sub("", text)
    end = len(text.rstrip())
    stated = [s for s in _statements(text) if s.boxed or not (truncated and s.end >= end)]
    positive = [s for s in stated if not _negated(text, s)]
    strong = [a for s in positive if (a := _strong(s))]
    weak = [a for s in positive if s.end >= end and not (strong and BOX.search(s.span)) and (a := _weak(s))]
    if strong or weak:
        last = (strong or weak)[-1]
        return last if all(agree(a, last) for a in strong + weak) else None
    if truncated or BOX.search(text) or (stated and not positive):
        return None
    return _bare(text, stated=bool(stated))


def states(text: str) -> bool:
    """Say whether a text says of something that it is the answer, or is not."""
    return bool(_statements(text) or NEGATION.search(text) or BOX.search(text))


def visible(response: str) -> str | None:
    """Return what follows the reasoning block; None if the block was never closed."""
    blocks = list(CLOSED.finditer(response))
    text = response[blocks[-1].end() :] if blocks else response
    return None if OPENED.search(text) else text


def boxes(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield begin, end and content of each outermost box whose braces are balanced."""
    at = 0
    while (found := BOX.search(text, at)) is not None:
        depth, place = 1, found.end()
        while place < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[place], 0) if text[place - 1] != "\\" else 0
            place += 1
        if depth:
            return
        yield found.start(), place, text[found.end() : place - 1]
        at = place


def _statements(text: str) -> list[Statement]:
    found = [Statement(content, begin, end, boxed=True) for begin, end, content in boxes(text)]
    found += [Statement(m["span"], m.start(), m.end(), heading=True) for m in HASHES.finditer(text)]
    end = len(text.rstrip()) if OPTION.search(text) else 0
    found += [Statement(m["span"], m.start(), m.end()) for m in LETTER.finditer(text) if m.end() >= end]
    found += [Statement(m["span"], m.start(), m.end()) for m in TAGGED.finditer(text)] if "<" in text else []
    for m in STATED.finditer(text):
        found.append(Statement((m["span"] if m["span"] is not None else m["below"]), m.start(), m.end()))
    return sorted(found, key=lambda s: s.begin)


def _negated(text: str, statement: Statement) -> bool:
    before = text[max(0, statement.begin - 40) : statement.begin]
    return bool(NEGATED.search(before) or STARTS_NEGATED.match(statement.span.lstrip(" *_$(")))


def _strong(statement: Statement) -> str | None:
    """Return the answer of a statement that is a number or a formula."""
    span = _trim(statement.span if statement.boxed else _sentence(statement.span))
    if not span or len(span) > MAX_ANSWER:
        return None
    if (result := EQUATION.fullmatch(span)) is not None:
        return result["result"]
    if quantity(span) is not None:
        return span
    if statement.boxed:
        short = len(span.split()) <= MAX_WORDS or not wordy(JOINS.sub(" ", plain(ENVIRONMENT.sub(" ", span))))
        return span if short else _one_number(span)
    if statement.heading or ALTERNATIVES.search(span) or wordy(plain(span)):
        return None
    return span


def _weak(statement: Statement) -> str | None:
    """Return the answer of a statement in words, which counts only where the response ends with it."""
    if statement.boxed or _strong(statement) is not None:
        return None
    span = _trim(_sentence(statement.span))
    return _one_number(span) or _short(span)


def _bare(text: str, *, stated: bool) -> str | None:
    """Return the answer of a response that states none: itself if it is short, or the one number of its last sentence."""
    lines = [line for line in text.splitlines() if line.strip()]
    last = _trim(lines[-1]) if lines else ""
    if not last or len(last) > 5 * MAX_ANSWER or lines[-1].rstrip().endswith("?"):  # a question is no answer
        return None
    if (result := EQUATION.fullmatch(last)) is not None:
        return result["result"]
    alone = len(lines) == 1 and not stated
    if len(last) <= MAX_ANSWER and (quantity(last) is not None or (alone and not wordy(plain(last)))):
        return last
    sentence = SENTENCE.split(last)[-1]
    return _one_number(sentence) or _one_formula(sentence) or (_short(last) if alone else None)


def _one_number(text: str) -> str | None:
    """Return the only number of a sentence, however often it is named."""
    spelled = plain(text)
    if ALTERNATIVES.search(text) or NEGATION.search(text) or BEYOND.search(spelled):
        return None
    numbers = NUMBER.findall(spelled)
    return numbers[-1] if numbers and len({number.lstrip("$£€¥") for number in numbers}) == 1 else None


def _one_formula(text: str) -> str | None:
    """Return the only formula of a sentence that has no number outside of it."""
    found = [next(g for g in m.groups() if g is not None) for m in FORMULA.finditer(text)]
    rest = FORMULA.sub(" ", text)
    if len(found) != 1 or ALTERNATIVES.search(rest) or NEGATION.search(rest) or re.search(r"[0-9$]", rest):
        return None
    return None if wordy(plain(ENVIRONMENT.sub(" ", found[0]))) else _trim(found[0]) or None


def _short(text: str) -> str | None:
    """Return a text of a few words without numbers as it stands."""
    fits = 0 < len(text) <= MAX_ANSWER and len(text.split()) <= MAX_WORDS
    return text if fits and not ALTERNATIVES.search(text) and not re.search(r"[0-9]", text) else None


def _unboxed(span: str) -> str:
    parts, at = [], 0
    for begin, end, content in boxes(span):
        parts += [span[at:begin], content]
        at = end
    return "".join([*parts, span[at:]])


def _sentence(span: str) -> str:
    """Cut a statement where its sentence ends, but not inside brackets; boxes in it give way to their content."""
    span = _unboxed(span[: 5 * MAX_ANSWER])
    for cut in SENTENCE_END.finditer(span):
        head = span[: cut.start()]
        if head.strip() and all(head.count(a) <= head.count(b) for a, b in ("()", "[]", "{}")):
            return head
    return span


def _trim(text: str) -> str:
    text = " ".join(text.split()).strip("*_` \t")
    text = re.sub(r"^(?::|=|≈)\s*", "", text)
    pairs = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ('"', '"'), ("'", "'"), ("**", "**"))
    before = ""
    while before != text:
        before, text = text, text.strip("*_` \t").rstrip(".,;:!?").rstrip()
        for left, right in pairs:
            if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
                inner = text[len(left) : -len(right)]
                text = inner.strip() if left not in inner else text
    return text
