"""The performance gap recovered: the ratio by hand, its interval, and a gap that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pupils import HERE, sums

from limbeck import api
from limbeck.core.errors import UsageError
from limbeck.core.recipe import Recipe
from limbeck.core.step import Source
from limbeck.evaluate.recovered import Recovered
from limbeck.evaluate.run import Run


class Sums(Source):
    """The prompts of `pupils.sums`."""

    def rows(self):
        yield from sums(200)


def recovered(out: Path, **given: tuple[str, ...]) -> dict:
    steps = [Sums(name="test")]
    steps += [Run(name=name.lower(), after="test", model=f"{HERE}:{name}") for name in ("Weak", "Strong", "Shy")]
    api.run(Recipe(steps=[*steps, Recovered(after="test", **given)], name="gap"), out=out)
    (folder,) = [f for f in out.iterdir() if f.name.endswith("-recovered")]
    return json.loads((folder / "recovered.json").read_text())


def test_the_ratio_with_its_interval(tmp_path: Path) -> None:
    """Weak is right on .3, strong on .6, and shy refuses every tenth of what strong knows."""
    found = recovered(tmp_path / "run", weak=("step:weak",), ceiling=("step:strong",), students={"shy": ("step:shy",)})
    weak, ceiling = found["weak"], found["ceiling"]
    (told,) = found["students"]
    assert (weak, ceiling) == (0.3, 0.6) and 0.5 < told["accuracy"] < 0.6
    assert told["recovered"]["mean"] == pytest.approx((told["accuracy"] - weak) / (ceiling - weak), abs=1e-5)
    assert 0.5 < told["recovered"]["low"] < told["recovered"]["mean"] < told["recovered"]["high"] < 1
    assert found["gap"]["mean"] == pytest.approx(0.3) and found["gap"]["low"] > 0.2
    assert found["sentences"][0].startswith("shy recovers 8") and "of the gap (95% interval" in found["sentences"][0]


def test_where_there_is_no_gap_nothing_is_recovered(tmp_path: Path) -> None:
    found = recovered(
        tmp_path / "run", weak=("step:strong",), ceiling=("step:shy",), students={"other": ("step:weak",)}
    )
    assert found["students"][0]["recovered"] is None and "can not be said" in found["sentences"][0]
    with pytest.raises(UsageError, match=r"needs evaluate\.run steps"):
        recovered(tmp_path / "none", weak=(), ceiling=("step:shy",), students={"other": ("step:weak",)})
    with pytest.raises(UsageError, match="neither weak nor ceiling"):
        Recovered(weak=("step:a",), ceiling=("step:b",), students={"weak": ("step:c",)})
