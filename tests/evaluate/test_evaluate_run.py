"""evaluate.run through the real engine, with pupils whose accuracy is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pupils import HERE, sums

from limbeck import api
from limbeck.core.errors import InputError, UsageError
from limbeck.core.row import Message, new_row
from limbeck.engine.rundir import read_rows
from limbeck.evaluate.run import Run
from limbeck.evaluate.stats import wilson


def evaluate(rows, tmp_path: Path, **fields):
    """Run the step; return results.json, the kept rows, the dropped rows and outcomes.jsonl."""
    out = tmp_path / "out"
    api.apply(Run(**fields), rows, out=out)
    (folder,) = [f for f in out.iterdir() if f.name.endswith("-run")]
    results = json.loads((folder / "results.json").read_text())
    outcomes = [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]
    return results, list(read_rows(folder / "kept.parquet")), list(read_rows(folder / "dropped.parquet")), outcomes


def test_greedy_accuracy_with_wilson_and_by_family(tmp_path):
    results, kept, dropped, outcomes = evaluate(sums(100), tmp_path, model=f"{HERE}:Strong", label="strong")
    assert results["accuracy"] == wilson(60, 100).to_json() | {"n": 100}
    assert results["prompts"] == 100 and results["samples"] == 1 and results["pass_at"] == {"1": 0.6}
    assert results["by_family"]["odd"] == wilson(30, 50).to_json() | {"n": 50}
    assert set(results["by_difficulty"]) == {"0", "1", "2"}
    assert results["tokens_out_mean"] == 3
    assert len(kept) == 100 and not dropped
    assert {row.labels["model"] for row in kept} == {"strong"} and all(row.sealed for row in kept)
    assert sum(row.scores["verified"] for row in kept) == 60
    assert [o["prompt"] for o in outcomes] == [row.id for row in sums(100)]
    assert "60.0%" in results["sentences"][0]


def test_refused_prompts_count_as_wrong_and_are_said_out_loud(tmp_path):
    results, kept, dropped, outcomes = evaluate(sums(100), tmp_path, model=f"{HERE}:Shy")
    assert results["accuracy"]["mean"] == 0.54 and results["accuracy"]["n"] == 100
    assert results["refused"] == 10 and len(kept) == 90 and len(dropped) == 10
    assert "10 of them got no answer and count as wrong" in results["sentences"][1]
    assert len(outcomes) == 100 and outcomes[0]["scores"] == [0.0]


def test_samples_give_pass_at_k_and_the_interval_counts_prompts(tmp_path):
    results, kept, _, outcomes = evaluate(sums(60), tmp_path, model=f"{HERE}:Lucky", samples=6, temperature=1.0)
    assert len(kept) == 360 and all(len(o["scores"]) == 6 for o in outcomes)
    assert list(results["pass_at"]) == ["1", "2", "4", "6"]
    assert results["pass_at"]["1"] == pytest.approx(results["accuracy"]["mean"], abs=1e-5)
    assert results["pass_at"]["6"] == pytest.approx(sum(any(o["scores"]) for o in outcomes) / 60, abs=1e-5)
    assert results["pass_at"]["4"] == pytest.approx(1 - 0.5**4, abs=0.08)
    assert results["accuracy"]["low"] < 0.5 < results["accuracy"]["high"]


def test_kinds_go_to_their_verifiers_and_keep_their_order(tmp_path):
    rows = sums(10)
    rows[3] = replace(rows[3], task={"kind": "exact", "reference": "Answer: 4"})
    rows[4] = replace(rows[4], task={"kind": "exact", "reference": "something else"})
    results, kept, _, _ = evaluate(rows, tmp_path, model=f"{HERE}:Strong")
    assert "exact" in kept[3].scores and "math" in kept[2].scores
    assert [row.scores["verified"] for row in kept] == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]
    assert results["accuracy"]["mean"] == 0.9


def test_an_unreadable_reference_is_left_out_and_counted(tmp_path):
    rows = [
        *sums(10),
        replace(sums(11)[10], task={"kind": "program", "cases": [["no", "cases", "at", "all"]], "name": 3}),
    ]
    results, _, _, outcomes = evaluate(rows, tmp_path, model=f"{HERE}:Strong")
    assert results["unscored"] == 1 and results["prompts"] == 10 == len(outcomes)
    assert "1 more were left out" in results["sentences"][-1]


def test_a_prompt_without_reference_or_kind_is_one_sentence(tmp_path):
    bare = new_row(messages=[Message(role="user", content="Hello?")], made_by={"step": "test"})
    with pytest.raises(UsageError, match=f"{bare.id}.*set kind to"):
        evaluate([bare], tmp_path, model=f"{HERE}:Strong")
    with pytest.raises(InputError, match=f"{bare.id} has no reference answer.*--map reference="):
        evaluate([bare], tmp_path / "b", model=f"{HERE}:Strong", kind="math")
    with pytest.raises(UsageError, match="Greedy samples are all alike"):
        evaluate(sums(3), tmp_path / "c", model=f"{HERE}:Strong", samples=4)
