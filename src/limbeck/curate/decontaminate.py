"""Evaluation items that have found their way into a corpus.

    Decontaminate(against=("gsm8k/test.jsonl", "mbpp.jsonl"))

    5b1e  Janet's ducks lay 16 eggs ...    dropped  labels {"contamination": "contaminated", "matched": '["test.jsonl:1"]'}
    77c0  Mary's ducks lay 12 eggs ...     kept     labels {"contamination": "variant", "matched": '["test.jsonl:1"]'}
    8a2d  Write a poem about ducks.        kept

Three verdicts: *contaminated* (the item, whole or in good part, in any case, layout or quoting, or its program under other
names), *variant* (the same problem with other numbers) and *template* (what the items have in common, and not what is in this one
alone). Only contaminated rows are dropped unless `drop` says otherwise. `extra["contamination"]` holds the evidence: for each item
the share of it that the row holds, where, and both texts with what they share marked.

All sets are searched at once, through one index of word 5-grams weighed by how few items hold them, so a phrase that many items
begin with does not flag a row. Items of fewer than five words are looked for as phrases or whole turns. How many items can not
be searched for is printed. `rule` decides by a published rule instead, for comparison. `curate.leaks` makes the report.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field, field_validator

from limbeck.core.errors import UsageError
from limbeck.core.row import Row, from_table, to_table
from limbeck.core.step import Whole
from limbeck.curate._contamination_items import Item, files_of, load, of_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from limbeck.curate._contamination_evidence import Match

SEALED = "sealed"
BATCH = 20_000
"""Rows that are looked through at a time."""
_DROPPED = {"contaminated": ("contaminated",), "variant": ("contaminated", "variant"), "nothing": ()}


class Finder(Protocol):
    """Whatever finds items in rows: the search of this step, or a published rule."""

    def matches(self, batch: pa.RecordBatch) -> dict[int, list[Match]]:
        """Return by row of the batch what it leaks."""
        ...


class Tally:
    """Rows and items hit, by set and verdict: the report in one line."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.rows: Counter[tuple[str, str]] = Counter()
        self.hit: dict[tuple[str, str], set[int]] = {}

    def add(self, found: Iterable[Sequence[Match]]) -> None:
        """Count what was found in some rows."""
        for matches in found:
            for match in matches:
                self.hit.setdefault((self.items[match.item].set, match.verdict), set()).add(match.item)
            self.rows.update({(self.items[match.item].set, match.verdict) for match in matches})

    def sentence(self, rows: int) -> str:
        """Return the counts as a sentence."""
        told = [
            f"{name}: {count:,} {verdict} ({_items(len(self.hit[name, verdict]))})"
            for (name, verdict), count in sorted(self.rows.items())
        ]
        return f"{rows:,} rows; " + ("; ".join(told) if told else "nothing found")


def _items(count: int) -> str:
    return f"{count:,} item{'s' * (count != 1)}"


class Decontaminate(Whole):
    """Find rows that leak evaluation items, say which and where, and drop those that are contaminated."""

    against: tuple[str, ...] = (SEALED,)
    """Evaluation sets: JSONL, JSON or Parquet files (also .gz), folders or patterns; `sealed` stands for the sealed rows among the
    rows of this step (`after=("corpus", "test")`), which are then dropped as no part of the corpus."""
    item_fields: dict[str, str] = Field(default_factory=dict)
    """Which fields of an evaluation file hold the `prompt`, the `answer` and the `id`; default: the usual names."""
    drop: Literal["contaminated", "variant", "nothing"] = "contaminated"
    """What is dropped: contaminated rows, variants too, or nothing (labels only). Templates are never dropped."""
    rule: Literal["limbeck", "gpt3-13gram", "tulu3-8gram-50", "any-8gram", "open-thoughts-ratio"] = "limbeck"
    """Whose rule decides: this step's own, or a published one for comparison (all it finds counts as contaminated)."""
    code: bool = True
    """Whether Python functions are compared as syntax trees too."""
    embed: str = ""
    """An embedding model for rows in which the words are silent: `minilm`, or the folder or Hub name of one; default: none."""
    similarity: float = Field(default=0.83, gt=0, le=1)
    """The cosine from which a window of a row counts as an item in other words."""

    @field_validator("against")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one evaluation set")
        if any(text.startswith("step:") for text in value):
            raise ValueError(
                "a step's rows are read with after=: let this step come after the corpus and the sealed set, "
                "after=('corpus', 'test'), and leave against at 'sealed'"
            )
        return value

    def watch(self) -> tuple[Path, ...]:
        """The evaluation files."""
        return tuple(files_of(self._files()))

    def key(self, row: Row) -> str:
        """Return the row's own id: rows do not influence each other, unless the sealed ones among them are the items."""
        return "" if SEALED in self.against else row.id

    def whole(self, rows: list[Row]) -> list[Row]:
        """Return the rows with verdict, items and evidence, the contaminated ones dropped."""
        return from_table(self.table(to_table(rows)))

    def table(self, table: pa.Table) -> pa.Table:
        """Do the same on a table; rows in which nothing is found are not touched."""
        import pyarrow as pa

        items = self._items(table)
        finder = self._finder(items)
        tally = Tally(items)
        batches = [self._batch(batch, items, finder, tally) for batch in table.to_batches(max_chunksize=BATCH)]
        print(f"limbeck: {self.called()}: {tally.sentence(table.num_rows)}", file=sys.stderr, flush=True)
        return pa.concat_tables(batches) if batches else table

    def _files(self) -> list[str]:
        return [text for text in self.against if text != SEALED]

    def _items(self, table: pa.Table) -> list[Item]:
        items = load(self._files(), self.item_fields)
        if SEALED in self.against:
            sealed = of_rows(from_table(table.filter(table["sealed"])))
            if not sealed and not items and table.num_rows:
                raise UsageError(
                    f"{self.called()}: there is nothing to compare with: no row is sealed and no evaluation set is named. "
                    "Name files with against=, or let the step come after a sealed source too."
                )
            items += sealed
        return items

    def _finder(self, items: Sequence[Item]) -> Finder:
        if self.rule != "limbeck":
            from limbeck.curate._contamination_rules import Rule

            return Rule(self.rule, items)
        from limbeck.curate._contamination_search import Search

        search = Search(items, code=self.code)
        self._tell(items, len(search.unsearchable()), len(search.whole_turns_only()))
        if not self.embed:
            return search
        from limbeck.curate._contamination_embed import Meaning

        return Meaning(search, self.embed, self.similarity)

    def _tell(self, items: Sequence[Item], lost: int, short: int) -> None:
        sets = len({item.set for item in items})
        print(
            f"limbeck: {self.called()}: {_items(len(items))} of {sets:,} set{'s' * (sets != 1)}; {short:,} of fewer than 5 words "
            f"are searched for as whole turns only, {lost:,} without a word can not be searched for",
            file=sys.stderr,
            flush=True,
        )

    def _batch(self, batch: pa.RecordBatch, items: Sequence[Item], finder: Finder, tally: Tally) -> pa.Table:
        import numpy as np
        import pyarrow as pa

        table = pa.Table.from_batches([batch])
        found = finder.matches(batch) if items else {}
        sealed, gone = np.asarray(batch["sealed"].fill_null(False)), ~np.asarray(batch["dropped"].is_null())
        places = [p for p in sorted({*found, *np.flatnonzero(sealed).tolist()}) if not gone[p]]
        if SEALED not in self.against:
            places = [p for p in places if not sealed[p]]
        tally.add(found[p] for p in places if p in found and not sealed[p])
        if not places:
            return table
        rows = from_table(table.take(places))
        changed = to_table([self._told(row, found.get(p, []), items) for row, p in zip(rows, places, strict=True)])
        order = np.arange(table.num_rows)
        order[places] = table.num_rows + np.arange(len(places))
        return pa.concat_tables([table, changed]).combine_chunks().take(order)

    def _told(self, row: Row, matches: Sequence[Match], items: Sequence[Item]) -> Row:
        if row.sealed:
            return row.drop(f"{self.called()}: an evaluation item, no part of the corpus")
        verdict, first = matches[0].verdict, items[matches[0].item]
        names = json.dumps(list(dict.fromkeys(items[m.item].name for m in matches)), ensure_ascii=False)
        evidence = [m.record(items[m.item].name, items[m.item].set) for m in matches]
        row = row.with_labels(contamination=verdict, matched=names).with_extra(contamination=evidence)
        if verdict not in _DROPPED[self.drop]:
            return row
        share = f"{100 * matches[0].share:.0f} % of the {matches[0].part} of item {first.name}"
        return row.drop(f"{self.called()}: {verdict}, {first.set}: {share}")
