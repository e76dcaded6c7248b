"""curate.decontaminate on the held-out half of the planted set: what it finds, what it leaves alone, and what others' rules do."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from planted_contamination import LEXICAL, Planted, planted, write_items

from limbeck.core.row import Message, Row, from_table, new_row, to_table
from limbeck.curate.decontaminate import Decontaminate

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def texts(corpora: Path) -> list[Planted]:
    return planted(corpora, "held-out")


@pytest.fixture(scope="module")
def sets(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return tuple(write_items(corpora, tmp_path_factory.mktemp("items")))


def run(texts: list[Planted], step: Decontaminate) -> list[Row]:
    rows = [new_row(messages=[Message(role="user", content=t.text)], made_by={"n": n}) for n, t in enumerate(texts)]
    return from_table(step.table(to_table(rows)))


@pytest.fixture(scope="module")
def told(texts: list[Planted], sets: tuple[str, ...]) -> list[Row]:
    return run(texts, Decontaminate(against=sets))


def share(texts: list[Planted], told: list[Row], modes: tuple[str, ...], verdict: str, named: bool = True) -> float:
    """Return the share of the texts of some modes with the verdict, the right item among those named."""
    rows = [(t, r) for t, r in zip(texts, told, strict=True) if t.mode in modes]
    hit = [
        r.labels.get("contamination") == verdict and (not named or t.item in json.loads(r.labels["matched"]))
        for t, r in rows
    ]
    print(f"{'+'.join(modes)}: {verdict} {sum(hit)} of {len(hit)}")
    assert len(hit) >= 90
    return sum(hit) / len(hit)


def test_every_way_of_leaking_is_found_and_the_item_named(texts: list[Planted], told: list[Row]) -> None:
    for mode in LEXICAL:
        assert share(texts, told, (mode,), "contaminated") >= 0.99, mode
    assert share(texts, told, LEXICAL, "contaminated") >= 0.995
    assert share(texts, told, ("short",), "contaminated") == 1.0


def test_other_numbers_are_a_variant(texts: list[Planted], told: list[Row]) -> None:
    assert share(texts, told, ("renumbered",), "variant") >= 0.97


def test_clean_texts_and_look_alikes_are_left_alone(texts: list[Planted], told: list[Row]) -> None:
    assert share(texts, told, ("clean",), "contaminated", named=False) == 0.0
    assert share(texts, told, ("clean",), "variant", named=False) <= 0.002, "GSM8K's own training set holds a few"
    assert share(texts, told, ("hard",), "contaminated", named=False) <= 0.03


def test_the_published_rules_miss_more_or_flag_more(texts: list[Planted], sets: tuple[str, ...]) -> None:
    some = [t for t in texts if t.mode in ("verbatim", "case", "json", "short", "hard")]
    found = {}
    for rule in ("gpt3-13gram", "tulu3-8gram-50", "any-8gram"):
        rows = run(some, Decontaminate(against=sets, rule=rule))
        flagged = Counter(t.mode for t, r in zip(some, rows, strict=True) if "contamination" in r.labels)
        found[rule] = {mode: flagged[mode] / sum(t.mode == mode for t in some) for mode in ("short", "hard")}
    assert (
        found["any-8gram"]["hard"] > 0.2
        and found["gpt3-13gram"]["short"] < 0.8
        and found["tulu3-8gram-50"]["short"] < 1.0
    )
