"""Which samples a reader sees: some of everything, chosen by rule and never by hand.

    choose(run, arms_of) -> [Card(question="Start with 12…", reference="17", why="dropped: not among the first …",
                                  samples=[Shown(text="12 + 5 = …", verdict="wrong", answer="18",
                                                 fates=["trained on: raw traces", "passed: the score is 0 …"])])]

Every reason for dropping, every verdict and both kinds of kept row (right, and wrong but kept) take turns until there
are enough; within each the smallest id comes first. An id is a hash, so the choice is as good as a draw, and the same
for the same run. What became of a sample is followed through its children: a shortened trace is still its parent's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from limbeck.core.row import Row, from_table
from limbeck.view.run_folder import Run, Stage

if TYPE_CHECKING:
    import pyarrow as pa

CARDS, SIDE_BY_SIDE, LIMIT, LONGEST = 12, 3, 20_000, 3000
VERDICTS = {
    "pass": "right",
    "wrong": "wrong",
    "no-answer": "no answer",
    "error": "error",
    "unreadable-reference": "no verdict",
}


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What became of a sample in one branch: `kept` in a training set, or dropped by a step."""

    kept: bool
    where: str
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One response as it is shown."""

    text: str
    cut: int = 0
    """How many characters are left out at the end."""
    verdict: str = ""
    right: bool | None = None
    answer: str | None = None
    note: str = ""
    fates: tuple[Fate, ...] = ()
    picked: bool = False
    """Whether it is the one that its card is shown for."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One prompt with the samples made from it, side by side."""

    question: str
    reference: str | None
    why: str
    samples: tuple[Shown, ...]
    more: int = 0


@dataclass(kw_only=True)
class _Choice:
    """Candidates by what they are an example of; each is (id, group, stage)."""

    kinds: dict[str, list[tuple[str, str, Stage]]] = field(default_factory=dict)

    def add(self, kind: str, identity: str, group: str, stage: Stage) -> None:
        self.kinds.setdefault(kind, []).append((identity, group, stage))

    def take(self, most: int) -> list[tuple[str, str, str, Stage]]:
        """Return (kind, id, group, stage), one kind after the other, no group twice."""
        queues = {kind: sorted(items, key=lambda item: item[0])[:400] for kind, items in self.kinds.items()}
        out: list[tuple[str, str, str, Stage]] = []
        seen: set[str] = set()
        while len(out) < most and any(queues.values()):
            for kind, queue in queues.items():
                while queue and queue[0][1] in seen:
                    queue.pop(0)
                if queue and len(out) < most:
                    identity, group, stage = queue.pop(0)
                    seen.add(group)
                    out.append((kind, identity, group, stage))
        return out


def choose(run: Run, arms_of: Mapping[str, str], most: int = CARDS) -> list[Card]:
    """Choose cards; `arms_of` names the arm that a training step belongs to."""
    together = pool(run)
    if together is None:
        return []
    taken = _candidates(run, together).take(most)
    groups = {group for _, _, group, _ in taken}
    siblings: dict[str, list[Row]] = {}
    for row in _rows(together, "kept", "group", groups):
        siblings.setdefault(row.group, []).append(row)
    chosen = [(kind, *_beside(identity, siblings.get(group, []), stage)) for kind, identity, group, stage in taken]
    fates = _fates(run, {row.id for _, rows, _, _ in chosen for row in rows}, arms_of)
    return [_card(kind, rows, more, fates, picked) for kind, rows, more, picked in chosen if rows]


def pool(run: Run) -> Stage | None:
    """Find the stage where all samples stand side by side: the first that scored them, else that made them."""
    for room in ("score", "generate"):
        found = [s for s in run.stages if s.room == room and s.state == "done" and s.kept]
        if found:
            return found[0]
    return next((s for s in reversed(run.stages) if s.state == "done" and s.kept and s.room != "evaluate"), None)


def _candidates(run: Run, pool: Stage) -> _Choice:
    choice = _Choice()
    fed = {name for stage in run.stages if stage.room == "train" for name in stage.after}
    for stage in run.stages:
        if stage.name in fed:
            for record in sorted(_records(stage, "kept"), key=lambda r: _verdict(r) != "right"):
                choice.add(f"kept, {_verdict(record)}".rstrip(", "), record["id"], record["group"], stage)
    for stage in run.stages:
        if stage.room not in ("evaluate", "train"):
            for record in _records(stage, "dropped"):
                choice.add(f"dropped, {_kind(_why(record['dropped'], stage))}", record["id"], record["group"], stage)
    for record in _records(pool, "kept"):
        choice.add(f"sampled, {_verdict(record) or 'not scored'}", record["id"], record["group"], pool)
    return choice


def _records(stage: Stage, which: str) -> list[dict[str, Any]]:
    table = stage.table(which, ["id", "group", "labels", "dropped"], most=LIMIT)
    return table.to_pylist() if table is not None else []


def _verdict(record: Mapping[str, Any]) -> str:
    verdict = str(dict(record["labels"] or ()).get("verdict", ""))
    return VERDICTS.get(verdict, verdict)


def _kind(reason: str) -> str:
    # ids and numbers differ from row to row; what is left is the kind
    return re.sub(r"\b[0-9a-f]{8,}\b|\b\d[\d.,]*", "…", reason)[:100]


def _rows(stage: Stage, which: str, column: str, wanted: set[str]) -> list[Row]:
    """Read only the rows whose `column` is wanted."""
    table = stage.table(which, where=(column, wanted)) if wanted else None
    return from_table(table) if table is not None else []


def _beside(identity: str, siblings: Sequence[Row], stage: Stage) -> tuple[list[Row], int, str]:
    """Put the chosen sample beside up to two others of its prompt, those with another verdict first."""
    picked = next((row for row in siblings if row.id == identity), None)
    if picked is None:
        own = _rows(stage, "kept", "id", {identity}) + _rows(stage, "dropped", "id", {identity})
        parents = {parent for row in own for parent in row.parents}
        # a rewritten row: its parent is the sample itself
        picked = next((row for row in siblings if row.id in parents), own[0] if own else None)
    if picked is None:
        return [], 0, ""
    others = [row for row in siblings if row.id != picked.id]
    others.sort(key=lambda row: row.labels.get("verdict") == picked.labels.get("verdict"))
    shown = [picked, *others[: SIDE_BY_SIDE - 1]]
    order = {row.id: index for index, row in enumerate(siblings)}
    return sorted(shown, key=lambda row: order.get(row.id, -1)), len(others) - len(shown) + 1, picked.id


def _fates(run: Run, wanted: set[str], arms_of: Mapping[str, str]) -> dict[str, list[Fate]]:
    """Follow ids, and the children made from them, through every stage."""

    roots = {identity: {identity} for identity in wanted}
    fates: dict[str, list[Fate]] = {identity: [] for identity in wanted}
    fed: dict[str, list[str]] = {}
    for stage in run.stages:
        for name in stage.after if stage.room == "train" else ():
            fed.setdefault(name, []).append(arms_of.get(stage.name, stage.name))
    for stage in run.stages:
        if stage.room in ("evaluate", "train", "seeds"):
            continue
        for which in ("kept", "dropped"):
            table = stage.table(which, ["id", "parents", "dropped"])
            for record in _followed(table, roots.keys()) if table is not None else []:
                origin = roots.get(record["id"]) or {r for p in record["parents"] or () for r in roots.get(p, ())}
                roots.setdefault(record["id"], set()).update(origin)
                for root in sorted(origin):
                    _tell(fates[root], stage, record["dropped"], fed.get(stage.name, []))
    return fates


def _tell(fates: list[Fate], stage: Stage, dropped: str | None, arms: Sequence[str]) -> None:
    if dropped is not None:
        fate = Fate(kept=False, where=stage.name, why=_why(dropped, stage))
        fates.extend([] if fate in fates else [fate])
    elif arms:
        for arm in dict.fromkeys(arms):
            fate = Fate(kept=True, where=arm)
            fates.extend([] if fate in fates else [fate])


def _why(reason: str, stage: Stage) -> str:
    head, colon, rest = reason.partition(": ")
    return rest if colon and head in (stage.step, stage.name) else reason


def _followed(table: pa.Table, wanted: Collection[str]) -> list[dict[str, Any]]:
    """Return the records whose id or one of whose parents is wanted; a batch at a time, which bounds the memory."""
    return [
        record
        for batch in table.to_batches(max_chunksize=10_000)
        for record in batch.to_pylist()
        if record["id"] in wanted or not set(record["parents"] or ()).isdisjoint(wanted)
    ]


def _card(kind: str, rows: Sequence[Row], more: int, fates: Mapping[str, list[Fate]], picked: str) -> Card:
    first = rows[0]
    question = visible(first.question or (first.messages[-1].content if first.messages else ""))
    reference = first.reference
    samples = tuple(replace(shown(row), fates=tuple(fates.get(row.id, ())), picked=row.id == picked) for row in rows)
    return Card(
        question=question[:LONGEST],
        reference=reference and visible(reference)[:300],
        why=kind,
        samples=samples,
        more=more,
    )


def shown(row: Row) -> Shown:
    """Make a row's response ready to be shown: verdict in words, long text cut, control characters made visible."""
    text = visible(row.response)
    verdict = row.labels.get("verdict", "")
    answer = row.labels.get("answer")
    finish = row.labels.get("finish", "stop")
    return Shown(
        text=text[:LONGEST],
        cut=max(0, len(text) - LONGEST),
        verdict=VERDICTS.get(verdict, verdict),
        right={"pass": True, "wrong": False, "no-answer": False, "error": False}.get(verdict),
        answer=visible(answer)[:300] if answer is not None else None,
        note="stopped by the token limit" if finish == "length" else "",
    )


def visible(text: str) -> str:
    """Replace control characters, which HTML forbids or hides, by their pictures; keep tabs and line ends.

    >>> visible("a\\x00b")
    'a␀b'
    """
    return "".join(chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\n\t" else c for c in text.replace("\r\n", "\n"))
