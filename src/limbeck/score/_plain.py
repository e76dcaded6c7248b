"""One plain spelling for the many ways an answer is written: LaTeX, Unicode, Markdown.

plain("$\\\\dfrac{1}{2}$")       -> "1/2"
plain("**1½**")              -> "1 1/2"
plain("\\\\text{ } \\\\$1{,}000")  -> "$1,000"
spelling("x^{2} + \\\\frac{x}{2}") -> "x^2+x/2"        for comparing what is not a number
"""

from __future__ import annotations

import re
import unicodedata

SIGNS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "﹣": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "⁄": "/", "∕": "/",
    "°": " degrees ", "π": r"\pi", "√": r"\sqrt", "∞": r"\infty", "≤": r"\leq", "≥": r"\geq", 
    "’": "'", "‘": "'", "“": '"', "”": '"',
    "\u200b": "", "\ufeff": "",
}  # fmt: skip
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
MARKER = "\ue000"
"""Stands for an escaped dollar sign while the dollar signs that only delimit mathematics are taken away."""
LATEX = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (r",\s*\\!\s*", ","),  # 32,\!349
        (r"\\\\", " "),
        (r"\\(?:left|right|displaystyle|textstyle|limits|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])", ""),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (
            r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname|boxed|fbox|emph)\s*\{([^{}]*)\}",
            r"\1",
        ),
        (r"\{,\}", ","),
        (r"\\[()\[\]]", ""),
        (r"\\[,;:! ]|\\q?quad(?![A-Za-z])|~", " "),
        (r"\\%", "%"),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![A-Za-z])", " degrees "),
        (r"\\(?:cdot|times)(?![A-Za-z])", "*"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"\\le(?![A-Za-z])", r"\\leq"),
        (r"\\ge(?![A-Za-z])", r"\\geq"),
        (r"\\(frac)\s*([0-9])\s*([0-9])", r"\\frac{\2}{\3}"),
        (r"\\frac\s*([0-9])\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*([0-9])", r"\1{\2}"),
        (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
        (r"(?<!\\)\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    )
)
FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}|[^\W\d_A-Za-z]")
"""Two Latin letters, or one of any other script: `x` and `B` are no words, `is` and `答` are."""


def plain(text: str) -> str:
    """Return the plain spelling of an answer; whitespace collapsed, case kept."""
    if not text.isascii():
        text = _ascii(text)
    if "\\" in text or "$" in text or "{,}" in text or "sqrt" in text:
        text = _latex(text)
    text = (
        text.replace("**", " ").replace("__", " ").replace("`", " ")
        if "*" in text or "_" in text or "`" in text
        else text
    )
    return " ".join(text.split())


def spelling(text: str) -> str:
    """Return the form in which answers that are not numbers are compared as text."""
    text = plain(text).strip(" .,;:")
    if wordy(text):
        return re.sub(r"[\s_]+", " ", text.strip(" .,;:!\"'")).casefold().strip()
    # in a formula ! and ' have a meaning: n! is not n
    text = re.sub(r"([\^_])\{(\w)\}", r"\1\2", text)
    text = re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", text)
    if re.fullmatch(r"\(?[A-Za-z]\)?", text):  # a choice: (B), B, b
        return text.strip("()").casefold()
    return text


def wordy(text: str) -> bool:
    """Say whether a text holds words, not only letters of a formula."""
    return bool(WORD.search(text))


def _ascii(text: str) -> str:
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+", lambda m: "^{" + m[0].translate(SUPERSCRIPTS) + "}", text)
    # 1½ must become 1 1/2, not 11/2
    text = re.sub("[¼½¾⅐-⅞]", lambda m: " " + unicodedata.normalize("NFKC", m[0]), text)
    text = re.sub("|".join(map(re.escape, SIGNS)), lambda m: SIGNS[m[0]], text)
    return re.sub("|".join(map(re.escape, SIGNS)), lambda m: SIGNS[m[0]], unicodedata.normalize("NFKC", text))


def _latex(text: str) -> str:
    text = unwrapped(text)
    for _ in range(8):
        text, count = FRACTION.subn(_slash, text)
        if not count:
            break
    return text


def unwrapped(text: str) -> str:
    """Return the text without LaTeX's wrappings (delimiters, sizes, spaces, fonts); its fractions and braces stay."""
    if not text.isascii():
        text = _ascii(text)
    text = text.replace(r"\$", MARKER)
    if text.count("$") != 1:
        text = text.replace("$", " ")
    text = text.replace(MARKER, "$")
    for pattern, put in LATEX:
        text = pattern.sub(put, text)
    return text


def _slash(found: re.Match[str]) -> str:
    top, bottom = (
        part.strip() if re.fullmatch(r"\s*-?[\w.,]*\s*", part) else f"({part.strip()})" for part in found.groups()
    )
    bottom = f"({bottom})" if re.fullmatch(r"[0-9]+[A-Za-z]+|[A-Za-z]{2,}", bottom) else bottom
    return f" {top}/{bottom}"
