"""Law: local = ray, row for row. Every step there is and every shipped recipe, on both backends, to the byte.

A step is found by its file. One that reads rows is given the rows of every kind below, cut into small shards; what makes an
artefact runs in one of the recipes. A new step needs nothing here, unless it has required options, and those stand in `OPTIONS` of
`test_law_rows.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_law_rows import OPTIONS, sample_rows

import clusters
from clusters import rows_of, run_local, run_ray
from limbeck import Recipe, api
from limbeck.core.errors import UsageError
from limbeck.core.find import find_step, recipe_names, step_names
from limbeck.core.row import to_table
from limbeck.core.step import Each, Source, Step, Whole

pytestmark = clusters.GROUP

SHARD = 9
RECIPES: dict[str, dict[str, Any]] = {
    "answers_only": {"problems": 12, "samples": 2, "updates": 2, "test": 4},
    "dagger": {"problems": 10, "rounds": 1, "sft_updates": 2, "updates": 2, "students": 1, "test": 4},
    "explanation_tuning": {"problems": 12, "samples": 2, "epochs": 1.0, "test": 4},
    "lima_selection": {"problems": 16, "keep": 3},
    "on_policy_distillation": {"problems": 12, "samples": 2, "updates": 2, "students": 1, "test": 4},
    "preference": {"problems": 60, "samples": 4, "updates": 2, "students": 1, "test": 4},
    "quickstart": {"problems": 12, "samples": 2, "updates": 2, "students": 1, "test": 4},
    "rejection_sampling": {"samples": 2, "limit": 24},
    "s1_selection": {"problems": 9, "each": 2},
    "star": {"problems": 8, "labelled": 8, "rounds": 1, "test": 4},
    "weak_to_strong": {
        **{"pretrained": 8, "strong_updates": 2, "labelled": 8, "weak_updates": 2},
        **{"problems": 8, "updates": 2, "students": 1, "test": 4},
    },
}
"""Each recipe's parameters for a run that trains, but not for long; a new recipe is added here."""
MORE: dict[str, list[dict[str, Any]]] = {
    "curate.exact": [{"keep": "longest", "on": "prompt"}, {"keep": "best", "on": "response"}],
    "select.top_k": [{"k": 2, "scope": "overall"}, {"k": 1, "scope": "group"}],
    "mix.weights": [{"weights": {"word": 1.0, "chain": 3.0}, "by": "family", "repeats": 3}],
    "generate.sample": [{"teacher": "embedded", "n": 2, "max_tokens": 12}],
    "generate.until_pass": [{"teacher": "echo:It is {sample}", "most": 6}],
    "select.quota": [{"label": "family", "most": 5}],
    "select.pairs": [{"k": 2, "against": "random"}],
}
"""Further options under which a step does something else with rows. No two ask the same: who asks first has the tokens."""
BY_HAND = (
    "curate.leaks",
    "evaluate.curves",
    "train.quality",
    "train.cache_logits",
    "train.reward",
    "train.process_reward",
)
"""Artefacts that no shipped recipe makes: they are made by the driver, by the very code of the local backend."""
ARTEFACTS = ("results.json", "outcomes.jsonl", "compare.json", "recovered.json", "curves.json")
NEEDS_WEIGHTS = ("curate.semantic", "score.reward", "score.process_reward", "score.quality")
"""What can not run without weights that do not come with the package."""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    clusters.start_cluster()


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return every step that reads or makes rows, with its options, by the name it has in the recipe below."""
    found = {}
    for name in step_names():
        if issubclass(find_step(name), Source | Each | Whole) and name not in NEEDS_WEIGHTS:
            required = any(field.is_required() for field in find_step(name).model_fields.values())
            usual = [OPTIONS.get(name, {})] if name in OPTIONS or not required or name not in MORE else []
            for number, options in enumerate([*usual, *MORE.get(name, ())]):
                found[name.replace(".", "-") + (f"-{number + 1}" if number else "")] = (name, options)
    return found


CASES = cases()


def step_of(case: str, rows: Path) -> Step | None:
    """Return the step of a case; None if it has required options that nobody has given."""
    name, options = CASES[case]
    kind = find_step(name)
    if name == "seeds.files":
        options = {"path": str(rows)}
    try:
        return kind(**options, name=case, after="" if issubclass(kind, Source) else "rows")
    except UsageError:
        return None


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every step there is, each on the same rows, on both backends."""
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("parity")
    # one of the planted answers gives the number of its process, which is another each time
    rows = [row for row in sample_rows() if not any("getpid" in message.content for message in row.messages)]
    pq.write_table(to_table(rows), folder / "rows.parquet")
    steps = [step for case in CASES if (step := step_of(case, folder / "rows.parquet")) is not None]
    source = find_step("seeds.files")(path=str(folder / "rows.parquet"), name="rows")
    # what a source makes is cut into shards only when something reads it
    readers = [
        find_step("select.first")(k=2, name=f"reads-{s.name}", after=s.name) for s in steps if isinstance(s, Source)
    ]
    recipe = Recipe(steps=[source, *steps, *readers], name="law")
    with pytest.MonkeyPatch.context() as patch:
        for kind, run in (("local", run_local), ("ray", run_ray)):
            patch.setenv("LIMBECK_CACHE", str(folder / f"{kind}.sqlite"))
            run(recipe, folder / kind, **({"shard_rows": SHARD} if kind == "ray" else {}))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_a_step_makes_the_same_rows_on_both_backends(case: str, both: Path) -> None:
    here, there = (
        {k.split("-", 1)[1]: v for k, v in rows_of(both / kind).items() if k.split("-", 1)[1].startswith(f"{case}/")}
        for kind in ("local", "ray")
    )
    assert len(here) == 2, f"{case} has required options: give it some in OPTIONS of test_law_rows.py"
    assert [name for name in here if here[name] != there[name]] == []


def test_the_rows_were_cut_and_the_keys_were_used(both: Path) -> None:
    shards = both / "ray" / ".shards"
    rows = json.loads(next((both / "ray").glob("[0-9]*-rows/step.json")).read_text())["rows"]["kept"]
    assert rows > 6 * SHARD and len(list(shards.glob("input/*.parquet"))) >= rows // SHARD
    keyed = {
        name
        for name, _ in CASES.values()
        if issubclass(find_step(name), Whole) and find_step(name).key is not Whole.key
    }
    done = [json.loads(manifest.read_text()) for manifest in shards.glob("wholes/*/*.json")]
    assert len({m["step"] for m in done if m["facts"].get("ordered")}) >= len(keyed) >= 5, "they were done in buckets"


def assert_same(local: Path, ray: Path) -> None:
    here, there = rows_of(local), rows_of(ray)
    assert here.keys() == there.keys() and here
    assert [name for name in here if here[name] != there[name]] == []
    for name in ARTEFACTS:
        files = sorted(f.relative_to(local) for f in local.glob(f"[0-9]*/{name}"))
        assert [f for f in files if (local / f).read_bytes() != (ray / f).read_bytes()] == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_makes_the_same_rows_on_both_backends(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = api.load_recipe(name, RECIPES[name])
    run_local(recipe, tmp_path / "local")
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "other.sqlite"))
    run_ray(recipe, tmp_path / "ray", shard_rows=SHARD)
    assert_same(tmp_path / "local", tmp_path / "ray")


def test_every_step_and_every_recipe_is_under_this_law() -> None:
    tried = {name for name, _ in CASES.values()} | {*NEEDS_WEIGHTS}
    for name, parameters in RECIPES.items():
        tried |= {step["use"] for step in api.load_recipe(name, parameters).to_json()["steps"]}
    assert [name for name in recipe_names() if name not in RECIPES] == [], "give the new recipe small parameters here"
    assert [name for name in step_names() if name not in {*tried, *BY_HAND}] == [], "no recipe and no case tries it"
