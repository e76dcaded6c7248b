"""Rules of papers about single texts: Gopher's document filter and Self-Instruct's instruction and instance filters.

    outside(measures("Buy now!"), {"words": 50, "stop_words": 2}, {})   ["words 2 < 50", "stop_words 0 < 2"]
    instruction_fault("Draw a map of France.")                      "speaks of 'map'"
    instance_fault("Translate: cat", "Translate: cat")              "the response is the prompt"

Every rule returns why a text breaks it, so that a threshold can be argued with.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence

UNFIT = re.compile(r"\b(images?|graphs?|pictures?|files?|maps?|draw|plot|go to)\b", re.IGNORECASE)
"""Self-Instruct's words of tasks that a text-only model can not do; Alpaca adds video, audio, music, flowchart, diagram."""
FEWEST, MOST = 4, 150
"""Words of an instruction that Self-Instruct keeps."""
FIRST_PERSON = re.compile(r"\b(?:I|I'm|I've|I'd|I'll|my|mine|myself)\b")
REFERENCES = re.compile(
    r"\b(?:as (?:mentioned|stated|noted|described|shown|explained)(?: (?:above|before|earlier|previously))?|"
    r"stack ?(?:exchange|overflow)|(?:other|previous|accepted) answers?)\b",
    re.IGNORECASE,
)


def outside(found: Mapping[str, float], least: Mapping[str, float], most: Mapping[str, float]) -> list[str]:
    """Return the measures under their least or over their most, as sentences."""
    low = [f"{name} {found[name]:.3g} < {value:g}" for name, value in least.items() if found[name] < value]
    return low + [f"{name} {found[name]:.3g} > {value:g}" for name, value in most.items() if found[name] > value]


def instruction_fault(instruction: str) -> str | None:
    """Return why Self-Instruct's filter would leave an instruction out, or None (arXiv 2212.10560, section 2.2)."""
    words = instruction.split()
    if not FEWEST <= len(words) <= MOST:
        return f"the instruction has {len(words)} words"
    if found := UNFIT.search(instruction):
        return f"the instruction speaks of '{found[0].lower()}'"
    if instruction.startswith("Write a program"):
        return "the instruction begins with 'Write a program'"
    first = instruction.lstrip()[:1]
    if first in string.punctuation:
        return "the instruction begins with punctuation"
    return None if first.isascii() else "the instruction begins with a letter that is not ASCII"


def instance_fault(prompt: str, response: str) -> str | None:
    """Return why Self-Instruct's filter would leave an instance out, or None."""
    if not response.strip():
        return "the response is empty"
    if prompt.strip() == response.strip():
        return "the response is the prompt"
    return "the response ends in ':'" if response.rstrip().endswith(":") else None


def lima_faults(response: str, shortest: int, longest: int) -> Sequence[str]:
    """Return what breaks LIMA's rules for an answer (arXiv 2305.11206, section 2.1): length, first person, references."""
    characters = len(response.strip())
    faults = [] if shortest <= characters <= longest else [f"{characters} characters"]
    if found := FIRST_PERSON.search(response):
        faults.append(f"first person: '{found[0]}'")
    if found := REFERENCES.search(response):
        faults.append(f"refers to something else: '{found[0]}'")
    return faults
