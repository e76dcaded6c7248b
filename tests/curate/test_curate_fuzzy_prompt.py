"""Self-Instruct's ROUGE-L rule: the same decisions as comparing all pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.core.row import Message, Row, new_row
from limbeck.curate.fuzzy_prompt import FuzzyPrompt


def rows_of(prompts: list[str], **fields: Any) -> list[Row]:
    return [
        new_row(messages=[Message(role="user", content=prompt)], made_by={"n": n}, **fields)
        for n, prompt in enumerate(prompts)
    ]


def kept(prompts: list[str], **fields: Any) -> list[int]:
    out = FuzzyPrompt(**fields).whole(rows_of(prompts))
    return [place for place, row in enumerate(out) if row.dropped is None]


def lcs(one: list[str], other: list[str]) -> int:
    row = [0] * (len(other) + 1)
    for word in one:
        before = row[:]
        for place, against in enumerate(other):
            row[place + 1] = before[place] + 1 if word == against else max(before[place + 1], row[place])
    return row[-1]


def by_all_pairs(prompts: list[list[str]], most: float) -> list[int]:
    """The rule as it is written: against every prompt kept so far."""
    stay: list[int] = []
    for place, mine in enumerate(prompts):
        worst = 0.0
        for other in stay:
            shared = lcs(mine, prompts[other])
            if shared:
                precision, recall = shared / len(mine), shared / len(prompts[other])
                worst = max(worst, 2 * precision * recall / (precision + recall))
        if worst <= most:
            stay.append(place)
    return stay


def test_the_example_of_the_page() -> None:
    prompts = [
        "Write a short poem about the sea.",
        "Write a short poem about the sky.",
        "Name three rivers in Europe.",
        "write a SHORT poem, about the sea",
    ]
    out = FuzzyPrompt().whole(rows_of(prompts))
    assert [row.dropped is None for row in out] == [True, False, True, False]
    assert out[1].dropped == f"curate.fuzzy_prompt: prompt like that of {out[0].id}"
    assert out[1].extra["similarity"] == pytest.approx(6 / 7, abs=1e-3)
    assert [row.labels["cluster"] for row in out] == [out[0].id, out[0].id, out[2].id, out[0].id]


def test_at_the_limit_a_row_stays() -> None:
    same, new = [f"w{n}" for n in range(7)], [f"x{n}" for n in range(3)]
    prompts = [" ".join([*same, "a", "b", "c"]), " ".join(same + new)]
    assert kept(prompts) == [0, 1], "2 * 7 / 20 is .7 and not above it"
    assert kept(prompts, most=0.69) == [0]


def test_only_kept_prompts_count() -> None:
    first, second, third = "a b c d e f g h", "a b c d e f x y", "a b c d z z x y"
    assert kept([first, second, third]) == [0, 2], "the third is like the second only, which is gone"


def test_the_order_of_words_counts() -> None:
    assert kept(["one two three four five six", "six five four three two one"]) == [0, 1]


def test_prompts_without_latin_words_are_compared_too() -> None:
    prompts = ["请写一首关于大海的短诗吧", "请写一首关于天空的短诗吧", "列出欧洲的三条主要河流", "write a poem"]
    assert kept(prompts) == [0, 2, 3]
    assert kept(["", "", "..."]) == [0, 1, 2], "nothing to compare is like nothing"


def test_samples_of_one_prompt_stay_or_go_together() -> None:
    shared = {"group": "g"}
    first = rows_of(["Write a poem about the sea."] * 3, **shared)
    second = rows_of(["Write a poem about the sky."] * 2, group="h")
    out = FuzzyPrompt().whole(first + second)
    assert [row.dropped is None for row in out] == [True] * 3 + [False] * 2


def test_sealed_rows_stay_and_dropped_rows_take_no_part() -> None:
    ordinary = rows_of(["Write a poem about the sea."])
    sealed = rows_of(["Write a poem about the sea!", "Write a poem about the sky."], sealed=True)
    gone = [row.drop("x: y") for row in rows_of(["Name three rivers."])]
    out = FuzzyPrompt().whole([*ordinary, *sealed, *gone, *rows_of(["Name three rivers."])])
    assert [row.dropped is None for row in out] == [False, True, True, False, True]
    assert out[3] == gone[0]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=9), max_size=25),
    st.sampled_from([0.3, 0.5, 0.7, 0.9]),
)
def test_as_comparing_all_pairs(prompts: list[list[str]], most: float) -> None:
    assert kept([" ".join(prompt) for prompt in prompts], most=most) == by_all_pairs(prompts, most)


@pytest.mark.real
def test_as_rouge_score_on_real_prompts(corpora: Path) -> None:
    """The very package that Self-Instruct uses, against every kept prompt, on real instructions and edits of them."""
    rouge = pytest.importorskip("rouge_score.rouge_scorer", reason="SKIPPED: rouge_score is not installed.")
    scorer = rouge.RougeScorer(["rougeL"], use_stemmer=False)
    lines = [
        line
        for name in ("self_instruct", "alpaca")
        for line in (corpora / name / "seed_tasks.jsonl").read_text().splitlines()
    ]
    prompts = [json.loads(line)["instruction"] for line in lines]
    tools = json.loads((corpora / "gpteacher/Codegen/codegen-instruct.json").read_text())[:150]
    prompts += [row["instruction"] for row in tools]
    prompts += [" ".join(word for n, word in enumerate(prompt.split()) if n % 5) for prompt in prompts[::3]]
    stay: list[int] = []
    for place, prompt in enumerate(prompts):
        if all(scorer.score(prompts[other], prompt)["rougeL"].fmeasure <= 0.7 for other in stay):
            stay.append(place)
    assert kept(prompts) == stay
    assert 0.3 * len(prompts) < len(stay) < 0.9 * len(prompts), "the case would prove nothing"
