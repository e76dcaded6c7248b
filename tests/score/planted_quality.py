"""Real answers with faults planted in some of them, so that the right verdict on every row is known.

    plant("truncated", text, rng)       the text, cut at a random word
    shuffled(rows, share, seed)         rows of which some have another row's response; and which ones

The answers are GPT-4's to IFEval's prompts and GPTeacher's role plays; none of them was read when the rules were written down,
but the rules were tried on them, so precision is optimistic. The planted phrases of faults are written as models write them.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

from limbeck.core.row import Message, Row, new_row

REFUSED = (
    "I'm sorry, but I can't assist with that request.",
    "I'm sorry, but I cannot fulfill this request. It goes against OpenAI's use-case policy.",
    "I apologize, but I am unable to provide instructions for that.",
    "Sorry, I can't help with that. Is there something else you would like to know?",
    "I cannot answer this question, as it asks for private information.",
    "Unfortunately, I am not able to browse the page you linked to, so a summary is impossible.",
    "I'm unable to open attachments. Please paste the text here.",
    "I won't write this letter, because it would deceive the reader.",
    "I must decline to answer, since the subject is dangerous.",
    "As a responsible assistant, I can't provide guidance on how to pick a lock.",
    "Sorry, but the question is not clear. Could you give me more context?",
    "I’m sorry, but I’m not able to generate that kind of content.",
)
SELF = (
    "As an AI language model, I don't have personal opinions, but here is what people say. ",
    "As an AI, I do not have feelings, yet the question deserves an answer. ",
    "I'm just an AI, so take this with a grain of salt. ",
    "As a large language model, I can only offer general advice. ",
    "My knowledge cutoff is September 2021, so this may be out of date. ",
    "As an artificial intelligence language model, I cannot taste food. ",
    "I am a language model trained by OpenAI. ",
    "I don't have access to real-time data, but in general it goes like this. ",
)
FOREIGN = {
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und sollen "
    "einander im Geist der Brüderlichkeit begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de conscience et "
    "doivent agir les uns envers les autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de "
    "razón y conciencia, deben "
    "comportarse fraternalmente los unos con los otros.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de consciência, devem agir "
    "uns para com os outros em espírito de fraternidade.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione "
    "e di coscienza e devono "
    "agire gli uni verso gli altri in spirito di fratellanza.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en geweten, en "
    "behoren zich jegens elkander in een geest van broederschap te gedragen.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i sumieniem i "
    "powinni postępować wobec innych w duchu braterstwa.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De har utrustats med förnuft och samvete och bör handla "
    "gentemot varandra i en anda av broderskap.",
    "id": "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. Mereka dikaruniai akal dan hati nurani dan "
    "hendaknya bergaul satu sama lain dalam semangat persaudaraan.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и "
    "совестью и должны поступать "
    "в отношении друг друга в духе братства.",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا وعليهم أن يعامل بعضهم بعضا بروح الإخاء.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
}
"""The first article of the Universal Declaration of Human Rights."""
RULES = {
    "refusal": "refusal",
    "boilerplate": "boilerplate",
    "truncated": "truncated",
    "repeated": "loop",
    "foreign": "language",
}
"""The planted fault, and the rule of `score.heuristics` that should find it."""


def real_answers(corpora: Path) -> list[tuple[str, str]]:
    """Return prompts and answers of two corpora, those of more than 30 words, in a fixed order."""
    with (corpora / "ifeval" / "input_response_data_gpt4_20231107_145030.jsonl").open(encoding="utf-8") as lines:
        found = [(r["prompt"], r["response"]) for r in map(json.loads, lines)]
    plays = json.loads(
        (corpora / "gpteacher/Roleplay/roleplay-simple-deduped-roleplay-instruct.json").read_text("utf-8")
    )
    found += [(r["instruction"] + "\n" + r["input"], r["response"]) for r in plays]
    return [(prompt, answer) for prompt, answer in found if len(answer.split()) > 30]


def plant(fault: str, text: str, rng: random.Random) -> str:
    """Return the text with one fault."""
    if fault == "refusal":
        return rng.choice(REFUSED)
    if fault == "boilerplate":
        return rng.choice(SELF) + text
    if fault == "foreign":
        return FOREIGN[rng.choice(list(FOREIGN))]
    words = list(re.finditer(r"\S+", text))
    if fault == "truncated":
        cut = rng.randint(len(words) * 3 // 10, len(words) * 9 // 10)
        return text[: words[cut].end()]
    assert fault == "repeated"
    begin = rng.randrange(len(words) - 12)
    piece = text[words[begin].start() : words[begin + rng.randint(4, 12)].end()]
    return text + f" {piece}" * rng.randint(10, 20)


def row_of(prompt: str, response: str, **made: object) -> Row:
    """Return a row of one question and one answer."""
    turns = (Message(role="user", content=prompt), Message(role="assistant", content=response))
    return new_row(messages=turns, made_by=made)


def shuffled(rows: Sequence[Row], share: float, seed: int = 0) -> tuple[list[Row], set[int]]:
    """Return the rows, of which some have each the response of another one, and the places of those."""
    rng = random.Random(seed)
    places = rng.sample(range(len(rows)), int(share * len(rows)))
    of = dict(zip(places, [*places[1:], places[0]], strict=True))
    moved = [row_of(row.question, rows[of.get(i, i)].response, index=i) for i, row in enumerate(rows)]
    return moved, set(places)
