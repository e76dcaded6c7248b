"""select.pairs and select.quota: which pairs are made, how a pair is written, and laws that hold for every input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, from_table, new_row, to_table
from limbeck.select.pairs import Pairs
from limbeck.select.quota import Quota


def sample(group: str, text: str, score: float | None, *before: Message) -> Row:
    turns = (Message(role="user", content=f"question {group}"), *before, Message(role="assistant", content=text))
    row = new_row(messages=turns, group=group, made_by={"text": text}, labels={"kind": group})
    return row if score is None else row.with_scores(reward=score)


def pairs_of(out: list[Row]) -> list[tuple[str, str]]:
    return [(r.response, r.extra["rejected"][-1]["content"]) for r in out if r.dropped is None]


def group(*scores: float | None) -> list[Row]:
    return [sample("g", f"answer {n}", score) for n, score in enumerate(scores)]


def test_a_pair_is_one_row_with_the_rejected_turns_beside_it() -> None:
    out = Pairs(score="reward").whole(group(0.2, 0.9, 0.5))
    (kept,) = [r for r in out if r.dropped is None]
    assert kept.messages == group(0.2, 0.9)[1].messages
    assert kept.extra["rejected"] == [{"role": "assistant", "content": "answer 0"}]
    assert kept.extra["pair"] == {
        "rejected_id": out[0].id, "shared": 1, "score": "reward", "chosen_score": 0.9, "rejected_score": 0.2,
    }  # fmt: skip
    assert out[0].dropped == f"select.pairs: the rejected side of {kept.id}"
    assert out[2].dropped == "select.pairs: not needed: its group has its 1 pair"
    assert from_table(to_table(out)) == out, "a pair survives the disk"


@pytest.mark.parametrize(
    ("options", "scores", "expected"),
    [
        ({}, (1, 1, 0, 0), [("answer 0", "answer 2")]),
        ({"k": 2}, (1, 1, 0, 0), [("answer 0", "answer 2"), ("answer 1", "answer 3")]),
        ({"k": 9}, (1, 1, 1, 0), [("answer 0", "answer 3")]),
        ({"k": 2}, (0.9, 0.1, 0.6, 0.3), [("answer 0", "answer 1"), ("answer 2", "answer 3")]),
        ({"k": 2, "margin": 0.5}, (0.9, 0.1, 0.6, 0.3), [("answer 0", "answer 1")]),
        ({"margin": 0.5}, (0.5, 0.0), [("answer 0", "answer 1")]),
        ({"margin": 0.5}, (0.5, 0.1), []),
        ({}, (1, 1, 1), []),
        ({}, (1,), []),
        ({"lowest": True}, (0.2, 0.9, 0.5), [("answer 0", "answer 1")]),
        ({"against": "closest"}, (0.2, 0.9, 0.5, 0.5), [("answer 1", "answer 2")]),
        ({"against": "closest", "lowest": True}, (0.2, 0.9, 0.5), [("answer 0", "answer 2")]),
        ({"against": "closest", "margin": 0.6}, (0.2, 0.9, 0.5), [("answer 1", "answer 0")]),
    ],
)
def test_which_pairs_are_made(
    options: dict[str, object], scores: tuple[float, ...], expected: list[tuple[str, str]]
) -> None:
    assert pairs_of(Pairs(score="reward", **options).whole(group(*scores))) == expected


def test_random_partners_are_the_same_each_time_and_others_with_another_seed() -> None:
    rows = [sample(f"g{g}", f"{g} {n}", float(n)) for g in range(40) for n in range(5)]
    one, again, other = (pairs_of(Pairs(score="reward", against="random", seed=s).whole(rows)) for s in (1, 1, 2))
    assert one == again != other
    assert {r.split()[1] for _, r in one} == {"0", "1", "2", "3"} and {c.split()[1] for c, _ in one} == {"4"}


def test_longer_conversations_part_where_the_assistants_turns_do() -> None:
    call = Message(role="assistant", content="", tool_calls='[{"name": "f"}]')
    result = Message(role="tool", content="3", name="f")
    out = Pairs(score="reward").whole(
        [sample("g", "good", 1.0, call, result), sample("g", "bad", 0.0, call, result), sample("g", "worse", -1.0)]
    )
    (kept,) = [r for r in out if r.dropped is None]
    assert kept.extra["pair"]["shared"] == 1 and kept.extra["rejected"] == [{"role": "assistant", "content": "worse"}]
    out = Pairs(score="reward", against="closest").whole(
        [sample("g", "good", 1.0, call, result), sample("g", "bad", 0.0, call, result)]
    )
    assert out[0].extra["pair"]["shared"] == 3 and out[0].extra["rejected"][0]["content"] == "bad"


def test_what_can_not_be_compared_is_not_paired() -> None:
    question = new_row(messages=(Message(role="user", content="q"),), group="g", made_by={}).with_scores(reward=0.0)
    same = [sample("g", "alike", 1.0), sample("g", "alike", 0.0)]
    other = [
        sample("g", "x", 1.0),
        new_row(messages=(Message(role="system", content="s"), *same[0].messages), group="g", made_by={}),
    ]
    other[1] = other[1].with_scores(reward=0.0)
    for rows in ([sample("g", "x", 1.0), question], same, other):
        assert pairs_of(Pairs(score="reward").whole(rows)) == []


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.25, 0.5, 1.0, None])), max_size=24), st.integers(1, 3),
       st.sampled_from([0.0, 0.3]), st.sampled_from(["worst", "closest", "random"]))  # fmt: skip
def test_laws_of_pairing(drawn: list[tuple[int, float | None]], k: int, margin: float, against: str) -> None:
    rows = [sample(f"g{g}", f"{n}", v) for n, (g, v) in enumerate(drawn)]
    out = Pairs(score="reward", k=k, margin=margin, against=against).whole(rows)
    assert [r.id for r in out] == [r.id for r in rows] and [r.scores for r in out] == [r.scores for r in rows]
    assert all(r.dropped is None or r.dropped.startswith("select.pairs: ") for r in out)
    by_id, used = {r.id: r for r in rows}, []
    for row in (r for r in out if r.dropped is None):
        rejected = by_id[row.extra["pair"]["rejected_id"]]
        assert rejected.group == row.group
        assert row.scores["reward"] - rejected.scores["reward"] >= max(margin, 1e-12)
        used += [row.id, rejected.id]
    assert len(used) == len(set(used)), "a sample stands in one pair at most"
    for name in {r.group for r in rows}:
        values = [r.scores["reward"] for r in rows if r.group == name and r.scores]
        made = sum(r.dropped is None for r in out if r.group == name)
        assert made <= k
        assert (made > 0) == any(a - b > 0 and a - b >= margin for a in values for b in values)


def test_quota() -> None:
    rows = [
        sample("a", "1", 0.1),
        sample("b", "2", 0.9),
        sample("a", "3", 0.9),
        sample("a", "4", None),
        sample("a", "5", 0.5),
    ]
    assert [r.dropped is None for r in Quota(label="kind", most=2).whole(rows)] == [True, True, True, False, False]
    best = Quota(label="kind", most=2, score="reward").whole(rows)
    assert [r.dropped for r in best] == [
        "select.quota: over the quota of 2 for kind 'a'", None, None, "select.quota: not scored", None,
    ]  # fmt: skip
    assert [r.dropped is None for r in Quota(task="difficulty", most=1).whole(rows)] == [True] + [False] * 4
    assert Quota(label="kind", most=1, score="reward", lowest=True).whole(rows)[0].dropped is None
    for wrong in ({}, {"label": "a", "task": "b"}):
        with pytest.raises(UsageError, match="either `label` or `task`"):
            Quota(most=1, **wrong)
