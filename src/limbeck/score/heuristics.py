"""What can be told of a text without a model: length, repetition, language, refusals, boilerplate, ends that are none.

    "As an AI language model, I can not taste. The best soups are made of the"
        scores  {"heuristics": 0, "rule_boilerplate": 0, "rule_truncated": 0, "rule_refusal": 1, …, "text_words": 15, …}
        labels  {"heuristics": "boilerplate, truncated", "language": "en",
                 "heuristics_why": "boilerplate: as an ai language model, i; truncated: ends in 'the'"}

Each rule is a score of its own, `rule_NAME`: 1 kept, 0 broken; `heuristics` is 1 where all of `rules` are kept. What was
measured is there as `text_NAME`. Nothing is dropped: that is `select.threshold`'s work (`Threshold(score="heuristics")`).

| rule | broken by | from |
|---|---|---|
| empty | a response without a letter or digit | |
| loop | one piece of up to 20 words again and again, for more than a tenth of the text | own |
| gopher | word count, word length, symbols, bullets, ellipses, letters, stop words | Gopher, appendix A.1.1 |
| repetition | duplicate lines, paragraphs and n-grams | Gopher, table A1 |
| self_instruct | instructions of under 4 or over 150 words, of files; answers that end in ":" | Self-Instruct, 2.2 |
| lima | answers outside 1,200 to 4,096 characters, in the first person, that refer to other texts | LIMA, 2.1 |
| refusal, boilerplate, filler | phrases at the beginning; of a model about itself; "Sure!", "I hope this helps" | own lists |
| truncated | sampling that ended at the limit, open code, a last sentence without end | own |
| language | another language than `language`; a text too short to tell is not another | own |

Gopher's rules were made for web pages: its least of 50 words is wrong for answers, and 7 % of GSM8K's solutions repeat
themselves too much for table A1. So `rules` leaves them out. What differs from the papers: table A1 is not applied to texts of
under `short` words, a most frequent n-gram must occur three times, and Self-Instruct's instruction rules look at the last user
turn, which may hold the input as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from limbeck.core.errors import nearest
from limbeck.core.row import Message, Row, new_row
from limbeck.core.step import Each, Made
from limbeck.score._format_language import SCRIPTS, looks_like
from limbeck.score._heuristics_language import language_of
from limbeck.score._heuristics_measures import LOOP, REPEATED, measures
from limbeck.score._heuristics_phrases import filler, refusal, self_reference, truncated
from limbeck.score._heuristics_rules import instance_fault, instruction_fault, lima_faults, outside

Rule = Literal[
    "empty", "loop", "gopher", "repetition", "self_instruct", "lima", "refusal", "boilerplate", "filler", "truncated", "language"
]  # fmt: skip
LEAST = {"words": 50.0, "mean_word_length": 3.0, "alphabetic_words": 0.8, "stop_words": 2.0}
MOST = {
    "words": 100_000.0,
    "mean_word_length": 10.0,
    "symbols_per_word": 0.1,
    "bullet_lines": 0.9,
    "ellipsis_lines": 0.3,
}


class Heuristics(Each):
    """Score a text by rules: 1 where it keeps all of `rules`, 0 otherwise, and each rule and measure on its own."""

    on: Literal["response", "prompt"] = "response"
    """Which text is looked at: the last assistant turn, or the last user turn."""
    rules: tuple[Rule, ...] = ("empty", "loop", "refusal", "boilerplate", "truncated", "language")
    """The rules that make up `heuristics`; all are scored in any case."""
    least: dict[str, float] = Field(default_factory=dict)
    """Other least values than Gopher's, by measure: `{"words": 5}`."""
    most: dict[str, float] = Field(default_factory=dict)
    """Other greatest values than Gopher's, by measure, those of repetition among them: `{"top_2_gram": 0.3}`."""
    short: int = Field(default=50, ge=0)
    """In texts of fewer words `repetition` is not judged; Gopher had removed such texts before."""
    language: str = ""
    """The language that texts should be in, as an ISO 639-1 code; empty for any."""
    shortest: int = Field(default=1200, ge=0)
    """LIMA's least characters of an answer."""
    longest: int = Field(default=4096, ge=1)
    """LIMA's most characters of an answer."""
    phrases: tuple[str, ...] = ()
    """Further phrases that count as boilerplate, in any case of letters."""
    details: bool = True
    """Whether what was measured is kept as scores `text_NAME`."""

    @field_validator("least", "most")
    @classmethod
    def _measured(cls, value: dict[str, float]) -> dict[str, float]:
        known = measures("")
        if unknown := [name for name in value if name not in known]:
            raise ValueError(f"there is no measure '{unknown[0]}'.{nearest(unknown[0], known)}")
        return value

    @field_validator("language")
    @classmethod
    def _spoken(cls, value: str) -> str:
        if value and value not in SCRIPTS:
            raise ValueError(f"this language is not known.{nearest(value, SCRIPTS)}")
        return value

    def each(self, row: Row) -> Made:
        """Score one text."""
        text = row.response if self.on == "response" else row.question
        found, language = measures(text), language_of(text)
        why = self._faults(row, text, found, language)
        broken = [rule for rule in self.rules if why.get(rule)]
        scores = {f"rule_{rule}": float(not fault) for rule, fault in why.items()}
        if self.details:
            scores |= {f"text_{name}": value for name, value in found.items()}
        told = "; ".join(f"{rule}: {why[rule]}" for rule in broken)[:500]
        labels = {"heuristics": ", ".join(broken) or "fine"} | ({"language": language} if language else {})
        labels |= {"heuristics_why": told} if told else {}
        return _cleared(row).with_scores(heuristics=float(not broken), **scores).with_labels(**labels)

    def _faults(self, row: Row, text: str, found: Mapping[str, float], language: str) -> dict[str, str]:
        """Return for each rule how the text breaks it, or the empty string."""
        judged = REPEATED if found["words"] >= self.short else {}
        repeated = {name: self.most.get(name, most) for name, most in judged.items()}
        own = next((phrase for phrase in self.phrases if phrase.lower() in text.lower()), None)
        answers = self.on == "response"
        instance = instance_fault(row.question, text) if answers else None
        foreign = self.language and text.strip() and _is_foreign(text, language, self.language)
        return {
            "empty": "" if any(map(str.isalnum, text)) else "no letter and no digit",
            "loop": ", ".join(outside(found, {}, {"loop": self.most.get("loop", LOOP)})),
            "gopher": ", ".join(outside(found, self._limits(LEAST, self.least), self._limits(MOST, self.most))),
            "repetition": ", ".join(outside(found, {}, repeated)),
            "self_instruct": instruction_fault(row.question) or instance or "",
            "lima": ", ".join(lima_faults(text, self.shortest, self.longest)),
            "refusal": (refusal(text) or "") if answers else "",
            "boilerplate": self_reference(text) or own or "",
            "filler": (filler(text) or "") if answers else "",
            "truncated": truncated(text, row.labels.get("finish", "") if answers else "") or "",
            "language": f"{language or 'another script'}, not {self.language}" if foreign else "",
        }

    @staticmethod
    def _limits(usual: Mapping[str, float], own: Mapping[str, float]) -> dict[str, float]:
        return {**usual, **{name: value for name, value in own.items() if name not in (*REPEATED, "loop")}}

    @classmethod
    def validate(cls) -> list[tuple[Row, float]]:  # type: ignore[override]
        """Return texts without fault (1.0) and with a planted one (0.0)."""
        return [(_example(response), score) for response, score in EXAMPLES]


SOUP = (
    "Cut two onions and fry them in butter until they are soft. Add a litre of stock, and let it cook for half an hour. "
    "Season the soup with salt and serve it with bread."
)
EXAMPLES = (
    (SOUP, 1.0),
    ("Paris.", 1.0),
    ("12 + 5 = 17.\nAnswer: 17", 1.0),
    ("I'm sorry to hear that. Try to drink a lot of water and to rest.", 1.0),
    ("- flour\n- eggs\n- milk", 1.0),
    ("```python\nprint(1)\n```", 1.0),
    ("", 0.0),
    ("...", 0.0),
    ("I'm sorry, but I can't help with that.", 0.0),
    ("As an AI language model, I do not eat. But many people like soup with bread.", 0.0),
    (SOUP[:90].rsplit(" ", 1)[0], 0.0),
    ("```python\nfor i in range(10):\n    print(i", 0.0),
    (" ".join(["It is very good."] * 12), 0.0),
)


def _is_foreign(text: str, found: str, wanted: str) -> bool:
    # figures and formulas are in no language, and in none that is wrong
    return found != wanted if found else any(map(str.isalpha, text)) and looks_like(text, wanted) is False


def _cleared(row: Row) -> Row:
    from dataclasses import replace

    mine = ("rule_", "text_")
    scores = {k: v for k, v in row.scores.items() if k != "heuristics" and not k.startswith(mine)}
    old = ("heuristics", "heuristics_why", "language")
    return replace(row, scores=scores, labels={k: v for k, v in row.labels.items() if k not in old})


def _example(response: str) -> Row:
    turns = (
        Message(role="user", content="How is it done, in a few words?"),
        Message(role="assistant", content=response),
    )
    return new_row(messages=turns, made_by={"step": "score.heuristics", "use": "validate"})
