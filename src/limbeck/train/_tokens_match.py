"""Whether two models mean the same by the same token ids: by trying, not by the size of their vocabularies.

    student " 17" -> [266, 268]     teacher " 17" -> [318]

    The tokenizers differ: of "She has 17 left." the student makes ... 3: ' 1' and the teacher ... 3: ' 17'.

A teacher that is fed ids of another tokenizer answers all the same, and its garbage is trained on without a word (trl#4562;
unsloth-zoo#965: equal sizes prove nothing). So the texts that will be trained on, and a few that are hard, are encoded with
both; and what each id stands for is compared, id by id. Added ids that only one of the two has are no difference.

The ends of a turn are compared before a student learns from its own writing: a student that does not know the token with
which the teacher stops is pulled to go on for ever (ms-swift#9526).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from limbeck.core.errors import UsageError

PROBES = (
    "She has 17 left, then 1234567.89 more (about 3,000).",
    "  two  spaces\n\n\ttab\r\nline   ",
    "def f(x):\n    return x**2 - 1  # naïve façade",
    "Ωμέγα ≤ 中文 текст 🙂 e\u0301 ﬁ",
    "don't DON'T I'll 'tis \"quoted\" $x^{2}$ \\frac{1}{2} <b>",
)


def first_difference(student: Any, teacher: Any, texts: Iterable[str] = ()) -> str | None:
    """Return a sentence naming the first token in which the two tokenizers differ on probes and `texts`, or None."""
    said = _by_id(student, teacher)
    if said:
        return said
    for text in (*PROBES, *texts):
        one, other = (list(t(text, add_special_tokens=False)["input_ids"]) for t in (student, teacher))
        if one != other:
            return _by_text(text, student, teacher, one, other)
    return None


def _by_id(student: Any, teacher: Any) -> str | None:
    vocabularies = [{number: token for token, number in t.get_vocab().items()} for t in (student, teacher)]
    one, other = vocabularies
    for number in sorted(one.keys() & other.keys()):
        if one[number] != other[number]:
            return f"the token {number} is {one[number]!r} to the student and {other[number]!r} to the teacher"
    return None


def _by_text(text: str, student: Any, teacher: Any, one: Sequence[int], other: Sequence[int]) -> str:
    place = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    named = [
        repr(t.decode(ids[place : place + 1])) if place < len(ids) else "nothing more"
        for t, ids in ((student, one), (teacher, other))
    ]
    shown = text if len(text) <= 60 else text[:57] + "..."
    return f"of {shown!r} token {place + 1} is {named[0]} to the student and {named[1]} to the teacher"


def check_tokenizers(student: Any, teacher: Any, texts: Iterable[str] = ()) -> None:
    """Raise UsageError, naming the first differing token, unless both tokenizers make the same ids of the same text."""
    said = first_difference(student, teacher, texts)
    if said:
        raise UsageError(
            f"Student and teacher have different tokenizers: {said}. The teacher's opinion of the student's tokens would be "
            "noise; take a teacher of the same family, or train on what the teacher writes (train.sft)."
        )


def check_vocabularies(student: int, teacher: int, known: int, restrict: bool) -> int | None:
    """Return how many first ids both are compared on, None for all; `known` ids stand for something in both tokenizers.

    Raises UsageError where one has more logits than the other and the restriction was not asked for.
    """
    if student == teacher:
        return None
    if restrict:
        return min(student, teacher, known)
    raise UsageError(
        f"The student has {student} logits and the teacher {teacher}, though their tokenizers agree: one is padded. "
        "Set shared_vocabulary to compare them on the ids that both know, renormalised."
    )


def check_stops(student: Collection[int], teacher: Collection[int], tokenizer: Any) -> None:
    """Raise UsageError unless both models end a turn with the same tokens."""
    if set(student) != set(teacher):
        names = [", ".join(repr(t) for t in tokenizer.convert_ids_to_tokens(sorted(s))) for s in (student, teacher)]
        raise UsageError(
            f"The student ends its turn with {names[0]} and the teacher with {names[1]}. A student trained on its own "
            "writing would unlearn to stop; give both the same eos_token_id (generation_config.json, tokenizer_config.json)."
        )


def check_templates(student: Any, teacher: Any) -> None:
    """Raise UsageError if the teacher has a chat template of its own that writes a prompt otherwise than the student's."""
    if not teacher.chat_template:
        return
    turn = [{"role": "user", "content": "What is 2 + 2?"}]
    one, other = (
        str(t.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)) for t in (student, teacher)
    )
    if one != other:
        raise UsageError(
            f"The student's chat template writes {one!r} where the teacher's writes {other!r}: the teacher would judge text "
            "in a form it does not know. Give the student the teacher's template (chat_template), or set other_template."
        )
