"""The 25 instructions of IFEval (Zhou et al. 2023), checked by our own rules, without nltk, langdetect or downloads.

    CHECKS["length_constraints:number_words"]("One two three.", relation="at least", num_words=5)
        -> "it has 3 words, not at least 5"                     the empty string where the instruction is followed

Names and arguments are IFEval's, so its records are read as they stand. Where the published checkers accept what the instruction
forbids, or the reverse, these differ on purpose; `docs/verifiers.md` lists every difference with its reason.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Sequence

from limbeck.score._format_language import SCRIPTS, looks_like
from limbeck.score._format_text import blocks, bullets, sentences, unfenced, words

RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "at least": operator.ge, "less than": operator.lt, "at most": operator.le, "more than": operator.gt, "exactly": operator.eq,
}  # fmt: skip
OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
DIVIDER = re.compile(r"(?<!\S)\*\*\*(?!\S)")
SIX_STARS = re.compile(r"(?<!\*)\*{6}(?!\*)")
# the lengths are bounded: a text of many opening brackets must not cost the square of its length
PLACEHOLDER = re.compile(r"\[(?=[^\[\]\n]{0,200}?[^\W\d_])(?![xX]\])[^\[\]\n]{1,300}\](?![(\[])")
EMPHASIS = re.compile(r"\*\*(?=[^\s*])[^*\n]*[^\s*]\*\*|(?<!\*)\*(?=[^\s*])[^*\n]*(?<=[^\s*])\*(?!\*)")
TITLE = re.compile(r"<<(?=[^<>\n]*\w)[^<>\n]+>>")
COMMAS = re.compile("[,，、،﹐﹑]")
QUOTES = (('"', '"'), ("“", "”"), ("„", "“"), ("«", "»"))


class Unreadable(ValueError):
    """A constraint whose name or arguments can not be read; the message says which."""


def keywords_exist(text: str, *, keywords: Sequence[str]) -> str:
    """All keywords occur, as whole words."""
    missing = [word for word in _several(keywords) if not _occurrences(text, word)]
    return f"'{missing[0]}' does not occur" if missing else ""


def keyword_frequency(text: str, *, keyword: str, frequency: int, relation: str = "at least") -> str:
    """The keyword occurs so often, as a whole word."""
    return _compared(_occurrences(text, keyword), relation, frequency, f"times '{keyword}'")


def forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> str:
    """None of the words occurs, as a whole word."""
    found = [word for word in _several(forbidden_words) if _occurrences(text, word)]
    return f"'{found[0]}' occurs" if found else ""


def letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: str = "at least") -> str:
    """The letter occurs so often, capital or small."""
    if not isinstance(letter, str) or len(letter) != 1:
        raise Unreadable(f"'{letter}' is no single letter")
    return _compared(
        text.casefold().count(letter.casefold()), let_relation, let_frequency, f"times the letter '{letter}'"
    )


def response_language(text: str, *, language: str) -> str:
    """The response is in the language with this ISO 639-1 code."""
    code = str(language).split("-")[0].lower()
    if code not in SCRIPTS:
        raise Unreadable(f"the language '{language}' is not known")
    return f"it is not in the language '{language}'" if looks_like(text, code) is False else ""


def number_sentences(text: str, *, num_sentences: int, relation: str = "at least") -> str:
    """The response has so many sentences."""
    return _compared(sentences(text), relation, num_sentences, "sentences")


def number_paragraphs(text: str, *, num_paragraphs: int) -> str:
    """The response has exactly so many paragraphs, parted by `***`."""
    parts = DIVIDER.split(text)
    inner = [part for place, part in enumerate(parts) if part.strip() or 0 < place < len(parts) - 1]
    if not all(part.strip() for part in inner):
        return "a paragraph between two dividers is empty"
    return _compared(len(inner), "exactly", num_paragraphs, "paragraphs parted by ***")


def number_words(text: str, *, num_words: int, relation: str = "at least") -> str:
    """The response has so many words."""
    return _compared(len(words(text)), relation, num_words, "words")


def nth_paragraph_first_word(text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> str:
    """There are exactly so many paragraphs, parted by blank lines, and one of them begins with this word."""
    parts = blocks(text)
    if fault := _compared(len(parts), "exactly", num_paragraphs, "paragraphs"):
        return fault
    if not 1 <= nth_paragraph <= len(parts):
        raise Unreadable(f"there is no paragraph {nth_paragraph} of {num_paragraphs}")
    found = (words(parts[nth_paragraph - 1]) or [""])[0]
    right = found.casefold() == first_word.strip().casefold()
    return "" if right else f"paragraph {nth_paragraph} begins with '{found}', not '{first_word}'"


def number_placeholders(text: str, *, num_placeholders: int) -> str:
    """At least so many placeholders such as `[address]`; links, check boxes and footnote numbers are none."""
    return _compared(len(PLACEHOLDER.findall(text)), "at least", num_placeholders, "placeholders")


def postscript(text: str, *, postscript_marker: str) -> str:
    """A line begins with the marker, and something follows it."""
    marker = r"\s?".join(re.escape(letter) for letter in postscript_marker.strip().rstrip(".") if letter.strip())
    found = re.search(rf"^[ \t>*_]*{marker}\.?[\s:*_]*\w", text, re.IGNORECASE | re.MULTILINE)
    return "" if found else f"no line begins with '{postscript_marker}'"


def number_bullets(text: str, *, num_bullets: int) -> str:
    """Exactly so many Markdown bullet points."""
    return _compared(bullets(text), "exactly", num_bullets, "bullet points")


def constrained_response(text: str) -> str:
    """One of the three allowed answers is given, and no other."""
    found = [option for option in OPTIONS if option in text]
    return "" if len(found) == 1 else f"it gives {len(found)} of the allowed answers, not one"


def number_highlights(text: str, *, num_highlights: int) -> str:
    """At least so many parts in *emphasis* or **bold**."""
    return _compared(len(EMPHASIS.findall(text)), "at least", num_highlights, "highlighted parts")


def multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> str:
    """At least so many sections whose heading line begins with the word and a number, each number once."""
    heading = re.compile(rf"^[ \t#>*_\[\"“]*{re.escape(section_spliter.strip())}[ \t]*(\d+|[IVXLC]+\b)", re.MULTILINE)
    return _compared(len(set(heading.findall(text))), "at least", num_sections, f"headings '{section_spliter.strip()}'")


def json_format(text: str) -> str:
    """The whole response, or the one code fence it consists of, is a JSON object or array."""
    try:
        value = json.loads(unfenced(text), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return "it is not JSON"
    return "" if isinstance(value, dict | list) else "it is a bare JSON value, not an object or an array"


def title(text: str) -> str:
    """A title stands in double angular brackets, such as `<<poem of joy>>`."""
    return "" if TITLE.search(text) else "there is no <<title>>"


def two_responses(text: str) -> str:
    """Two different responses, parted by six asterisks."""
    parts = [" ".join(words(part)).casefold() for part in SIX_STARS.split(text)]
    inner = [part for place, part in enumerate(parts) if part or 0 < place < len(parts) - 1]
    if len(inner) != 2 or not all(inner):
        return f"it has {len([part for part in inner if part])} responses parted by ******, not 2"
    return "" if inner[0] != inner[1] else "the two responses are the same"


def repeat_prompt(text: str, *, prompt_to_repeat: str) -> str:
    """The response begins with the request, word for word, and then answers it."""
    said, wanted = " ".join(text.split()).casefold(), " ".join(prompt_to_repeat.split()).casefold()
    if not said.startswith(wanted):
        return "it does not begin with the request"
    return "" if re.search(r"\w", said[len(wanted) :]) else "no answer follows the repeated request"


def end_phrase(text: str, *, end_phrase: str) -> str:
    """The response ends with this phrase."""
    said, wanted = _bare_end(text), _bare_end(end_phrase)
    return "" if said.endswith(wanted) else f"it does not end with '{end_phrase.strip()}'"


def capital_words(text: str, *, capital_frequency: int, capital_relation: str = "at least") -> str:
    """So many words in all capital letters; a lone `I` or `A` is none."""
    found = [word for word in words(text) if word.isupper() and sum(map(str.isalpha, word)) > 1]
    return _compared(len(found), capital_relation, capital_frequency, "words in capitals")


def all_capitals(text: str) -> str:
    """English, without small letters."""
    return _in_case(text, any(map(str.islower, text)), "small")


def all_lowercase(text: str) -> str:
    """English, without capital letters."""
    return _in_case(text, any(map(str.isupper, text)), "capital")


def no_comma(text: str) -> str:
    """No comma of any script."""
    return "it has a comma" if COMMAS.search(text) else ""


def quotation(text: str) -> str:
    """The whole response stands in double quotation marks."""
    text = text.strip()
    wrapped = any(len(text) > 2 and text.startswith(a) and text.endswith(b) for a, b in QUOTES)
    return "" if wrapped else "it is not wrapped in double quotation marks"


CHECKS: dict[str, Callable[..., str]] = {
    "keywords:existence": keywords_exist,
    "keywords:frequency": keyword_frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullets,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlights,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_phrase,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_words,
    "change_case:english_capital": all_capitals,
    "change_case:english_lowercase": all_lowercase,
    "punctuation:no_comma": no_comma,
}


def _compared(count: int, relation: str, number: int, what: str) -> str:
    if relation not in RELATIONS or isinstance(number, bool) or not isinstance(number, int | float):
        raise Unreadable(f"'{relation} {number}' is no readable number of {what}")
    return "" if RELATIONS[relation](count, number) else f"it has {count} {what}, not {relation} {number:g}"


def _occurrences(text: str, word: str) -> int:
    if not isinstance(word, str) or not word.strip():
        raise Unreadable("a keyword must be a text")
    whole = rf"(?<!\w){re.escape(word.strip())}(?!\w)" if re.search(r"\w", word) else re.escape(word.strip())
    return len(re.findall(whole, text, re.IGNORECASE))


def _several(value: Sequence[str]) -> list[str]:
    if isinstance(value, str) or not value:
        raise Unreadable("the keywords must be a list of texts")
    return list(value)


def _in_case(text: str, other: bool, name: str) -> str:
    if not any(map(str.isalpha, text)):
        return "it has no letters"
    if other:
        return f"it has {name} letters"
    return "it is not in English" if looks_like(text, "en") is False else ""


def _bare_end(text: str) -> str:
    return " ".join(text.split()).strip("\"'“”’*_ ").casefold()


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not JSON")
