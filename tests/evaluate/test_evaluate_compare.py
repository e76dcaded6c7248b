"""evaluate.compare: arms of steps through the real engine, arms of one table, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pupils import HERE, sums

from limbeck import api
from limbeck.core.errors import InputError, UsageError
from limbeck.core.recipe import Recipe
from limbeck.core.row import Message, new_row
from limbeck.core.step import Source
from limbeck.evaluate.compare import Compare
from limbeck.evaluate.run import Run


class Sums(Source):
    """The prompts of `pupils.sums`."""

    count: int = 100

    def rows(self):
        yield from sums(self.count)


def compared(out: Path) -> dict:
    (folder,) = [f for f in out.iterdir() if f.name.endswith("-compare")]
    return json.loads((folder / "compare.json").read_text())


def test_arms_of_steps(tmp_path):
    steps = [Sums(name="test")]
    steps += [Run(name=name.lower(), after="test", model=f"{HERE}:{name}") for name in ("Weak", "Strong", "Shy")]
    arms = {"weak": ("step:weak",), "strong": ("step:strong",), "shy": ("step:shy",)}
    api.run(Recipe(steps=[*steps, Compare(after="test", arms=arms)], name="arms"), out=tmp_path / "run")
    found = compared(tmp_path / "run")
    assert [(a["name"], a["accuracy"]["mean"], a["prompts"]) for a in found["arms"]] == [
        ("weak", 0.3, 100), ("strong", 0.6, 100), ("shy", 0.54, 100)
    ]  # fmt: skip
    assert [(p["left"], p["right"], p["resolved"]) for p in found["pairs"]] == [
        ("weak", "strong", True), ("strong", "shy", True), ("weak", "shy", True)
    ]  # fmt: skip
    assert found["story"] == "weak < strong > shy"
    first = found["pairs"][0]
    assert first["difference"]["mean"] == pytest.approx(0.3) and first["difference"]["low"] > 0.2
    assert first["mcnemar"] == {"left_only": 0, "right_only": 30, "p": pytest.approx(2 / 2**30)}
    assert found["sentences"][0].startswith("strong beats weak by 30.0 points (95% interval 2")
    assert "100 prompts)." in found["sentences"][0]


def test_other_prompts_are_refused(tmp_path):
    steps = [Sums(name="a"), Run(name="one", after="a", model=f"{HERE}:Weak")]
    steps += [Sums(name="b", count=40), Run(name="two", after="b", model=f"{HERE}:Weak")]
    compare = Compare(after="a", arms={"x": ("step:one",), "y": ("step:two",)})
    with pytest.raises(UsageError, match=r"'step:two' \(arm 'y'\).*share 40 of 100"):
        api.run(Recipe(steps=[*steps, compare], name="other"), out=tmp_path / "run")
    bad = Compare(after="a", arms={"x": ("step:one",), "y": ("step:a",)})
    with pytest.raises(UsageError, match=r"'step:a' is no evaluate.run step"):
        api.run(Recipe(steps=[*steps[:2], bad], name="bad"), out=tmp_path / "run2")


def answers(arms: dict[str, list[float | None]], *, own_groups: bool = False):
    """Scored rows: arms by source, one answer to each prompt; None is not scored."""
    rows = []
    for source, scores in arms.items():
        for i, score in enumerate(scores):
            row = new_row(
                messages=[Message(role="user", content=f"Question {i}"), Message(role="assistant", content=source)],
                group="" if own_groups else f"q{i}",
                made_by={"step": "test", "source": source, "i": i},
                labels={"source": source},
            )
            rows.append(row if score is None else row.with_scores(verified=score))
    return rows


@pytest.mark.parametrize("own_groups", [False, True])
def test_arms_of_one_table(tmp_path, own_groups):
    rng = np.random.default_rng(0)
    low, high = (rng.random(200) < 0.3).astype(float), (rng.random(200) < 0.6).astype(float)
    same = high.copy()
    same[:2] = 1 - same[:2]
    rows = answers({"a": low.tolist(), "b": high.tolist(), "c": same.tolist()}, own_groups=own_groups)
    api.apply(Compare(by="source"), rows, out=tmp_path / "out")
    found = compared(tmp_path / "out")
    assert found["story"] == "a < b ? c"
    assert [a["name"] for a in found["arms"]] == ["a", "b", "c"]
    assert "b against c is not resolved" in found["sentences"][1]


def test_two_runs_of_the_same_comparison_are_equal_and_the_seed_matters(tmp_path):
    rng = np.random.default_rng(0)
    rows = answers({"a": (rng.random(80) < 0.3).tolist(), "b": (rng.random(80) < 0.4).tolist()})
    found = []
    for name, seed in (("x", 0), ("y", 0), ("z", 1)):
        api.apply(Compare(by="source", seed=seed), rows, out=tmp_path / name)
        found.append(compared(tmp_path / name))
    assert found[0] == found[1] and found[0]["pairs"] != found[2]["pairs"]
    assert abs(found[0]["pairs"][0]["difference"]["low"] - found[2]["pairs"][0]["difference"]["low"]) < 0.02


def test_several_seeds_widen_the_interval_and_single_runs_are_named(tmp_path):
    from limbeck.evaluate.compare import Arm, Table, _as_arm, _cautions

    class Here:
        folder = tmp_path

        def artefact(self, name):
            return tmp_path / name.removeprefix("step:")

    rng = np.random.default_rng(0)
    for name, rate in {"base": 0.1, "s1": 0.3, "s2": 0.5, "s3": 0.7}.items():
        (tmp_path / name).mkdir()
        lines = [json.dumps({"prompt": f"p{i}", "scores": [float(rng.random() < rate)]}) for i in range(200)]
        (tmp_path / name / "outcomes.jsonl").write_text("\n".join(lines) + "\n")
    arms = {"base": ("step:base",), "trained": ("step:s1", "step:s2", "step:s3")}
    assert list(Compare(arms=arms).make([], Here())) == []
    found = json.loads((tmp_path / "compare.json").read_text())
    assert len(found["arms"][1]["runs"]) == 3 and found["arms"][1]["accuracy"]["mean"] == pytest.approx(0.5, abs=0.05)
    wide = found["pairs"][0]["difference"]
    assert wide["high"] - wide["low"] > 0.4, "runs of .3, .5 and .7 say little about the next"
    assert found["sentences"][-1].startswith("One run only: base.")
    assert "200 prompts, 1 and 3 runs" in found["sentences"][0]
    assert Arm("a", np.ones((1, 2))).mean == 1 and _cautions(Table([_as_arm("a", [[[1.0]]])], 1), []) == []


def test_many_pairs_bring_holm(tmp_path):
    rng = np.random.default_rng(4)
    base = rng.random(150)
    rows = answers(
        {f"arm {k}": (base + rng.normal(0, 0.3, 150) < 0.4 + 0.05 * k).astype(float).tolist() for k in range(6)}
    )
    api.apply(Compare(by="source"), rows, out=tmp_path / "out")
    found = compared(tmp_path / "out")
    assert len(found["pairs"]) == 6, "neighbours, and the first against the last"
    assert (found["pairs"][-1]["left"], found["pairs"][-1]["right"]) == ("arm 0", "arm 5")
    assert all(p["p_holm"] >= p["p"] for p in found["pairs"])
    hints = [p for p in found["pairs"] if p["resolved"] and p["p_holm"] > 0.05]
    assert sum("Holm" in s for s in found["sentences"]) == len(hints) > 0


def test_tables_that_can_not_be_compared(tmp_path):
    def fails(rows, error, says, **fields):
        with pytest.raises(error, match=says):
            api.apply(Compare(**{"by": "source"} | fields), rows, out=tmp_path / says[:8])

    fails(answers({"a": [1.0, 0.0], "b": [1.0]}), UsageError, r"same prompts \(a: 2, b: 1; all share 1\)")
    fails(answers({"a": [1.0, 0.0]}), UsageError, "the same 'source' .'a'.")
    fails(answers({"a": [1.0], "b": [None]}), UsageError, "No prompt has the score 'verified' in every arm")
    fails(answers({"a": [None], "b": [None]}), UsageError, "No row has the score 'verified'")
    fails(answers({"a": [1.0], "b": [1.0]}), InputError, "no label 'sorce'. Did you mean 'source'", by="sorce")
    with pytest.raises(UsageError, match="either arms"):
        Compare()
    with pytest.raises(UsageError, match="two arms or more"):
        Compare(arms={"a": ("step:x",)})


def test_unscored_prompts_are_left_out_and_said(tmp_path):
    rows = answers({"a": [1.0, 0.0, 1.0, None], "b": [1.0, 1.0, 1.0, 1.0]})
    api.apply(Compare(by="source"), rows, out=tmp_path / "out")
    found = compared(tmp_path / "out")
    assert found["arms"][0]["prompts"] == 3 and found["arms"][0]["accuracy"]["mean"] == pytest.approx(2 / 3)
    assert any("1 prompts were left out" in s for s in found["sentences"])


@pytest.mark.real
def test_four_real_models_on_gsm8k(tmp_path, corpora):
    """The corpus says which of its 4 x 1319 solutions are right; the larger and the verified models must come out ahead."""
    rows = []
    for i, line in enumerate((corpora / "gsm8k" / "example_model_solutions.jsonl").read_text().splitlines()):
        record = json.loads(line)
        for source in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            row = new_row(
                messages=[
                    Message(role="user", content=record["question"]),
                    Message(role="assistant", content=record[source]["solution"]),
                ],
                group=f"q{i}",
                made_by={"i": i},
                labels={"source": source},
            )
            rows.append(row.with_scores(verified=float(record[source]["is_correct"])))
    api.apply(Compare(by="source"), rows, out=tmp_path / "out")
    found = compared(tmp_path / "out")
    assert found["story"] == "6b_finetuning < 6b_verification > 175b_finetuning < 175b_verification"
    assert all(a["prompts"] == 1319 for a in found["arms"]) and len(found["pairs"]) == 6
    print(found["story"], *found["sentences"], sep="\n")
