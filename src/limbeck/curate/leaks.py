"""The report on contamination, both ways: which rows leak, and which evaluation items are leaked.

    Leaks(of="step:decontaminate", against=("gsm8k/test.jsonl",))

    leaks.json     {"rows": 8000, "verdicts": {"contaminated": 12, "variant": 3},
                    "sets": {"test.jsonl": {"items": 1319, "contaminated": 9, "variant": 2, "template": 0, "rows": 15}}}
    items.jsonl    {"item": "test.jsonl:17", "set": "test.jsonl", "verdict": "contaminated", "rows": ["5b1e..."]}   a line an item
    evidence.md    both texts of every finding, what they share marked, for people

With `against`, clean items have a line too, so a score can be told for the items that the corpus has seen and for those it has not:
`scores` names the outcomes of an evaluation ({"item": "test.jsonl:17", "score": 1}, or evaluate.run's outcomes.jsonl), and
leaks.json then holds the mean of both sorts, with their numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from limbeck.core.errors import InputError
from limbeck.core.row import Row, from_table
from limbeck.core.step import Context, Make
from limbeck.curate._contamination_items import Item, files_of, load, of_rows

WORST = ("contaminated", "variant", "template")
SHOWN = 200
"""Findings that evidence.md shows in full."""


class Leaks(Make):
    """Say which rows leak which evaluation items, and how a score differs on the items that are leaked."""

    reads_sealed: ClassVar[bool] = True

    of: str = ""
    """The step that looked for leaks, `step:NAME`: its kept and its dropped rows are read. Default: the rows that come in."""
    against: tuple[str, ...] = ()
    """The evaluation sets it was given, so that clean items are told too; sealed rows among those read count as well."""
    item_fields: dict[str, str] = Field(default_factory=dict)
    """As for curate.decontaminate."""
    scores: str = ""
    """A JSONL file with a score of an evaluation for each item: `item` (or `prompt`, a row id) and `score` (or `scores`)."""

    def watch(self) -> tuple[Path, ...]:
        """The evaluation files and the scores."""
        return (*files_of(self.against), *([Path(self.scores)] if self.scores else []))

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Write leaks.json, items.jsonl and evidence.md; keep no rows."""
        read = _rows_of(context.artefact(self.of)) if self.of else rows
        known = [*load(self.against, self.item_fields), *of_rows([r for r in read if r.sealed])]
        corpus = [row for row in read if not row.sealed]
        found = _by_item(corpus)
        lines = _lines(known, found)
        told = _told(corpus, lines, closed=bool(known))
        if self.scores:
            told["scores"] = _compared(lines, known, Path(self.scores))
        _write(context.folder / "items.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        _write(context.folder / "leaks.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
        _write(context.folder / "evidence.md", _evidence(corpus, told))
        return []


Lines = list[dict[str, Any]]


def _rows_of(folder: Path) -> list[Row]:
    import pyarrow.parquet as pq

    files = [file for name in ("kept", "dropped") if (file := folder / f"{name}.parquet").is_file()]
    return [row for file in files for row in from_table(pq.read_table(file))]


def _by_item(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, list[str]]]:
    """Return the ids of the rows that leak each item (set, name), by verdict."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in rows:
        for match in row.extra.get("contamination", ()):
            found.setdefault((match["set"], match["item"]), {}).setdefault(match["verdict"], []).append(row.id)
    return found


def _lines(known: Sequence[Item], found: Mapping[tuple[str, str], Mapping[str, list[str]]]) -> Lines:
    names = dict.fromkeys([*((item.set, item.name) for item in known), *sorted(found)])
    lines = []
    for key in names:
        held = found.get(key, {})
        verdict = next((v for v in WORST if v in held), "clean")
        lines.append({"item": key[1], "set": key[0], "verdict": verdict, "rows": held.get(verdict, [])})
    return lines


def _told(rows: Sequence[Row], lines: Lines, closed: bool) -> dict[str, Any]:
    verdicts = Counter(row.labels["contamination"] for row in rows if "contamination" in row.labels)
    sets: dict[str, dict[str, Any]] = {}
    for line in lines:
        facts = sets.setdefault(line["set"], {"items": 0 if closed else None, **dict.fromkeys(WORST, 0), "rows": 0})
        facts["items"] = facts["items"] + 1 if closed else None
        if line["verdict"] in WORST:
            facts[line["verdict"]] += 1
    for row in rows:
        for name in {match["set"] for match in row.extra.get("contamination", ())}:
            sets[name]["rows"] += 1
    return {"rows": len(rows), "verdicts": dict(verdicts), "sets": sets}


def _compared(lines: Lines, known: Sequence[Item], file: Path) -> dict[str, Any]:
    """Return the mean score of clean and of leaked items."""
    by_row = {item.row: item.name for item in known if item.row}
    score: dict[str, float] = {}
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(text)
            values = record["scores"] if "scores" in record else [record["score"]]
            name = str(record.get("item", record.get("prompt")))
            score[by_row.get(name, name)] = sum(map(float, values)) / len(values)
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as problem:
            raise InputError(
                f"{file} line {number} is no score of an item ({problem!r}): it needs item and score."
            ) from None
    sorts: dict[str, list[float]] = {"clean": [], "leaked": []}
    for line in lines:
        if line["item"] in score and line["verdict"] != "template":
            sorts["clean" if line["verdict"] == "clean" else "leaked"].append(score[line["item"]])
    if not any(sorts.values()):
        raise InputError(
            f"No score in {file} belongs to an item that was searched for; `item` must be its id or `file:line`."
        )
    means = {name: sum(values) / len(values) if values else None for name, values in sorts.items()}
    return {name: {"items": len(sorts[name]), "mean": means[name]} for name in sorts}


def _evidence(rows: Sequence[Row], told: Mapping[str, Any]) -> str:
    out = ["# Contamination", "", f"{told['rows']:,} rows. " + _counted(told["verdicts"]), ""]
    out += ["| set | items | contaminated | variant | template | rows |", "|---|---|---|---|---|---|"]
    for name, facts in told["sets"].items():
        items = "" if facts["items"] is None else f"{facts['items']:,}"
        out.append(f"| {name} | {items} | {' | '.join(str(facts[v]) for v in WORST)} | {facts['rows']} |")
    flagged = [row for row in rows if "contamination" in row.labels]
    flagged.sort(key=lambda row: WORST.index(row.labels["contamination"]))
    for row in flagged[:SHOWN]:
        for match in row.extra["contamination"][:1]:
            share = f"{100 * match['share']:.0f} % of its {match['part']}, by {match['by']}"
            out += ["", f"## {match['verdict']}: {match['set']}, item {match['item']} ({share})", ""]
            out += [f"Row {row.id}", "", _quoted(match["row"]), "", "Item", "", _quoted(match["text"])]
    if len(flagged) > SHOWN:
        out += ["", f"{len(flagged) - SHOWN:,} more are in the rows' `extra`."]
    return "\n".join(out) + "\n"


def _counted(verdicts: Mapping[str, int]) -> str:
    return (
        ", ".join(f"{count:,} {verdict}" for verdict, count in verdicts.items()) + "."
        if verdicts
        else "Nothing was found."
    )


def _quoted(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
