"""The report as text: what it says, what it escapes, what it survives."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from limbeck.core.errors import WrongFolder
from limbeck.view import accuracy as measurement
from limbeck.view import run_folder, verdict
from limbeck.view.report import STATIC, content, render, write


@pytest.fixture(scope="module")
def page(whole_run: Path) -> str:
    return write(whole_run).read_text(encoding="utf-8")


def test_the_report_has_every_section(page: str) -> None:
    for section in ("accuracy", "funnel", "cost", "curves", "answers", "samples", "diversity", "limits"):
        assert f'<section id="{section}">' in page
        assert f'href="#{section}"' in page


def test_the_verdict_names_winner_interval_base_and_teacher(whole_run: Path) -> None:
    run = run_folder.read(whole_run)
    said = verdict.sentences(run, measurement.read(run))
    assert said[0].startswith("Trained on verified traces, the student answers ")
    assert "of 120 test problems" in said[0] and "untrained it answers" in said[0] and "its teacher answers" in said[0]
    assert re.match(
        r"Verified traces beat raw traces by [\d.]+ points \(95\u202f% interval [\d.]+ to [\d.]+\)\.", said[1]
    )


def test_an_unresolved_difference_is_never_called_a_win(whole_run: Path, tmp_path: Path) -> None:
    folder = copy(whole_run, tmp_path)
    path = next(folder.glob("*-compare/compare.json"))
    told = json.loads(path.read_text())
    for pair in told["pairs"]:
        pair["difference"] = {"mean": 0.004, "low": -0.031, "high": 0.039}
        pair["resolved"] = False
    path.write_text(json.dumps(told))
    run = run_folder.read(folder)
    said = " ".join(verdict.sentences(run, measurement.read(run)))
    assert "beat" not in said
    assert "Verified traces against raw traces: not resolved (0.4 points, 95\u202f% interval \u22123.1 to 3.9)." in said


def test_training_that_changed_nothing_is_said_to_have_changed_nothing(whole_run: Path, tmp_path: Path) -> None:
    folder = copy(whole_run, tmp_path)
    path = next(folder.glob("*-compare/compare.json"))
    told = json.loads(path.read_text())
    for arm in told["arms"]:
        arm |= {"accuracy": {"mean": 0.0, "low": 0.0, "high": 0.0}, "runs": [0.0]}
    for pair in told["pairs"]:
        pair |= {"difference": {"mean": 0.0, "low": 0.0, "high": 0.0}, "resolved": False}
    path.write_text(json.dumps(told))
    run = run_folder.read(folder)
    accuracy = measurement.read(run)
    said = verdict.sentences(run, accuracy)
    assert said[0].startswith(
        "Whatever it is trained on, the student answers 0.0\u202f% of 120 test problems correctly;"
    )
    assert said[0].endswith("Whether training helped at all is not resolved.")
    assert said[1] == "Verified traces and raw traces did equally on every test problem; that resolves nothing."
    assert any("without width" in limit for limit in verdict.limits(run, accuracy, False))


def test_a_difference_that_favours_the_left_is_told_the_right_way_round() -> None:
    pair = measurement.Pair(left="raw", right="verified", mean=-0.05, low=-0.09, high=-0.01, resolved=True)
    assert verdict.told_pair(pair) == "Raw beat verified by 5.0 points (95\u202f% interval 1.0 to 9.0)."


def test_a_hint_is_called_a_hint() -> None:
    pair = measurement.Pair(left="raw", right="verified", mean=0.05, low=0.001, high=0.09, resolved=True, hint=True)
    assert verdict.told_pair(pair).endswith("take it as a hint.")


def test_arms_are_found_with_roles_and_seeds(whole_run: Path) -> None:
    accuracy = measurement.read(run_folder.read(whole_run))
    assert [(arm.name, arm.role, len(arm.runs)) for arm in accuracy.arms] == [
        ("base", "base", 1),
        ("answers only", "student", 3),
        ("raw traces", "student", 3),
        ("verified traces", "student", 3),
        ("teacher", "teacher", 1),
    ]
    assert accuracy.families == ["chains", "word_problems"]
    assert accuracy.cautions == ("One run only: base, teacher.",)
    assert {"answers only", "raw traces", "verified traces"} >= {p.left for p in accuracy.pairs[:3]}


def test_results_without_a_comparison_are_shown_and_claim_nothing(whole_run: Path, tmp_path: Path) -> None:
    folder = copy(whole_run, tmp_path)
    shutil.rmtree(next(folder.glob("*-compare")))
    accuracy = measurement.read(run_folder.read(folder))
    assert {arm.name for arm in accuracy.arms} == {"base", "answers only", "raw traces", "verified traces", "teacher"}
    assert not accuracy.pairs
    raw = next(arm for arm in accuracy.arms if arm.name == "raw traces")
    assert len(raw.runs) == 3 and raw.low is None


def test_no_text_of_a_model_becomes_markup(page: str) -> None:
    assert "window.owned=1" in page, "the hostile answer should be among the samples"
    assert page.count("<script") == 1
    assert "<img" not in page and "onload=window" not in page.replace("&lt;svg onload=window", "")
    assert "{{7*7}}" in page and "49 {% raw" not in page


def test_hostile_names_are_escaped_too(whole_run: Path, tmp_path: Path) -> None:
    folder = copy(whole_run, tmp_path)
    bad = '"><script>window.owned=9</script>'
    recipe = json.loads((folder / "recipe.json").read_text())
    (folder / "recipe.json").write_text(json.dumps({**recipe, "name": bad, "params": {bad: bad}}))
    (folder / "env.json").write_text(json.dumps({bad: [bad]}))
    for path in folder.glob("*/*.json"):
        text = path.read_text().replace("raw traces", bad.replace('"', '\\"'))
        path.write_text(text.replace("not among the first", bad.replace('"', '\\"')))
    page = render(run_folder.read(folder))
    assert page.count("<script") == 1
    assert "owned=9" in page


def test_control_characters_are_made_visible(page: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", page)


def test_the_page_asks_the_network_for_nothing(page: str) -> None:
    outside = re.findall(
        r"""(?:src|href|action|data)=["']?(?!#|data:,)([^"'\s>]+)""", re.sub(r"<pre.*?</pre>", "", page, flags=re.S)
    )
    assert outside == []
    assert "@import" not in page and "url(" not in page


def test_the_page_stays_small(whole_run: Path, page: str) -> None:
    assert len(page.encode()) < 400_000


def test_a_run_that_was_killed_is_told_as_provisional(broken_run: Path) -> None:
    page = write(broken_run).read_text(encoding="utf-8")
    assert "This run is not finished:" in page
    assert "curve.jsonl, line" in page, "the half-written line must be named"
    assert "not finished" in page and "not started" in page
    assert "rows each, 1 of 3 done" in page


def test_a_price_that_nobody_told_is_unknown(broken_run: Path, whole_run: Path) -> None:
    costs = content(run_folder.read(broken_run))
    assert next(c for c in costs["costs"] if c.title == "samples").usd is None
    assert costs["cost_total"].usd is None
    assert content(run_folder.read(whole_run))["cost_total"].usd == 0.0


def test_damaged_files_are_named_and_do_not_stop_the_report(whole_run: Path, tmp_path: Path) -> None:
    folder = copy(whole_run, tmp_path)
    (folder / "env.json").write_text("{broken")
    next(folder.glob("*-samples/step.json")).write_text("[]")
    next(folder.glob("*-compare/compare.json")).unlink()
    run = run_folder.read(folder)
    assert any("env.json" in note for note in run.notes) and any("holds no JSON object" in note for note in run.notes)
    page = render(run)
    assert "env.json can not be read as JSON" in page


def test_a_step_of_an_unknown_kind_is_shown(whole_run: Path, tmp_path: Path) -> None:
    folder = copy(whole_run, tmp_path)
    extra = folder / "99-mystery"
    extra.mkdir()
    (extra / "step.json").write_text(
        json.dumps({"step": "my_step.py:Mystery", "name": "mystery", "after": ["raw"], "rows": {"in": 3}})
    )
    (extra / "done").write_text("x")
    assert "mystery" in render(run_folder.read(folder))


def test_an_empty_run_is_reported_and_a_stranger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(
        json.dumps({"name": "empty", "params": {}, "steps": [{"use": "seeds.tasks", "name": "problems"}]})
    )
    page = write(tmp_path).read_text(encoding="utf-8")
    assert "No rows have been made yet" in page
    (tmp_path / "other").mkdir()
    with pytest.raises(WrongFolder, match="is not a run folder"):
        write(tmp_path / "other")


def test_the_same_run_gives_the_same_page(whole_run: Path) -> None:
    first, second = (re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", render(run_folder.read(whole_run))) for _ in range(2))
    assert first == second


def test_every_fate_of_a_sample_is_followed(whole_run: Path) -> None:
    cards = content(run_folder.read(whole_run))["cards"]
    assert len(cards) == 12
    assert len({card.question + str(card.reference) for card in cards}) >= 10
    kinds = {card.why for card in cards}
    assert {"kept, right", "kept, wrong"} <= kinds
    assert any("duplicate of" in kind for kind in kinds) and any("earlier sample" in kind for kind in kinds)
    fates = [fate for card in cards for one in card.samples for fate in one.fates]
    # the answers-only rows are children of the samples: a fate reaches through them
    assert any(fate.kept and fate.where == "answers only" for fate in fates)
    assert any(not fate.kept and fate.where == "verified" for fate in fates)
    for card in cards:
        assert sum(one.picked for one in card.samples) == 1
        assert len(card.samples) <= 3


def colours(scheme: int) -> dict[str, str]:
    style = (STATIC / "report.css").read_text()
    return {
        name: pair.split(", ")[scheme]
        for name, pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", style)
    }


def contrast(one: str, two: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(one), light(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_stand_out(scheme: int) -> None:
    c = colours(scheme)
    text = [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("paper", "raised", "sunk", "ribbon")]
    text += [
        ("right", "right-tint"),
        ("wrong", "wrong-tint"),
        ("warn", "warn-tint"),
        ("right", "raised"),
        ("wrong", "raised"),
        ("paper", "ink"),
    ]
    for ink, ground in text:
        assert contrast(c[ink], c[ground]) >= 4.5, (ink, ground)
    for mark in ("kept", "dropped", "made", "base", "teacher", *(f"arm{i}" for i in range(8))):
        assert contrast(c[mark], c["paper"]) >= 3, mark


def test_the_fallback_colours_are_the_light_ones() -> None:
    style = (STATIC / "report.css").read_text()
    plain = dict(re.findall(r"--([\w-]+): (#\w{6});", style.split("@supports")[0]))
    assert plain == colours(0)


def copy(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to / "copy"))
