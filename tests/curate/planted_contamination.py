"""A set of texts in which it is known which evaluation item, if any, each one leaks.

    Planted(text="> Robert bought 12 apples ...", mode="quoted", item="gsm8k:17")     a leak: the item must be named
    Planted(text="Write a poem about ...",        mode="clean",  item=None)           must not be flagged
    Planted(text="Robert bought 12 apples ...",   mode="hard",   item=None)           shares a beginning or a template only

The items are GSM8K test, HumanEval, MBPP and IFEval (2 997 of them). Positives are made from them in every way of `MODES`;
clean texts come from sets that hold none of them. `part="tune"` uses every other item and text, `part="held-out"` the rest:
thresholds were chosen on the first and figures are told for the second.
"""

from __future__ import annotations

import ast
import gzip
import html
import json
import os
import random
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

Part = Literal["tune", "held-out"]
T = TypeVar("T")
REAL_LEAKS = ("a Python function to find the first non-repeated character in a given string",)
"""What of the clean sets is an item after all (here MBPP's 395th, in GPTeacher's Codegen): left out of the clean texts."""
LEXICAL = ("verbatim", "case", "reformatted", "json", "html", "comment", "embedded", "partial", "translated")


@dataclass(frozen=True)
class Evaluated:
    """An evaluation item: `name` is `set:place`."""

    name: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Planted:
    """One text, how it was made, and the item that it leaks (None: none)."""

    text: str
    mode: str
    item: str | None


def items(corpora: Path) -> list[Evaluated]:
    """Return the evaluation items of four public sets, in the order of their files."""
    found = []
    for at, record in enumerate(_lines(corpora / "gsm8k/test.jsonl")):
        found.append(Evaluated(f"gsm8k:{at}", record["question"], record["answer"]))
    with gzip.open(corpora / "humaneval/HumanEval.jsonl.gz", "rt", encoding="utf-8") as stream:
        for at, record in enumerate(map(json.loads, stream)):
            found.append(Evaluated(f"humaneval:{at}", record["prompt"], record["canonical_solution"]))
    for at, record in enumerate(_lines(corpora / "mbpp/mbpp.jsonl")):
        found.append(Evaluated(f"mbpp:{at}", record["text"], record["code"]))
    for at, record in enumerate(_lines(corpora / "ifeval/input_data.jsonl")):
        found.append(Evaluated(f"ifeval:{at}", record["prompt"], ""))
    return found


def write_items(corpora: Path, folder: Path) -> list[str]:
    """Write the items as one JSONL file a set, ids included, and return the paths."""
    sets: dict[str, list[Evaluated]] = {}
    for item in items(corpora):
        sets.setdefault(item.name.split(":")[0], []).append(item)
    paths = []
    for name, members in sets.items():
        path = folder / f"{name}.jsonl"
        lines = [json.dumps({"id": i.name, "prompt": i.prompt, "answer": i.answer}) for i in members]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        paths.append(str(path))
    return paths


def planted(corpora: Path, part: Part, each: int = 100) -> list[Planted]:
    """Return positives (`each` a mode, roughly), clean texts, hard look-alikes and renumbered problems of one part."""
    rng = random.Random(f"planted {part}")
    mine = _half(items(corpora), part)
    clean = clean_texts(corpora, part)
    out = [Planted(text, "clean", None) for text in clean]
    for mode in LEXICAL[:-1]:
        fit = [i for i in mine if mode != "partial" or len(i.prompt.split()) >= 24]
        for item in _spread(fit, each, rng):
            out.append(Planted(_MODES[mode](item, rng, clean), mode, item.name))
    out += _short(mine, rng, clean)
    out += _translated(mine, rng, each)
    for item in _spread(
        [i for i in mine if i.name.startswith("gsm8k") and len(re.findall(r"\d+", i.prompt)) > 1], each, rng
    ):
        out.append(Planted(_renumbered(item.prompt, rng), "renumbered", item.name))
    out += [Planted(text, "hard", None) for text in hard_texts(corpora, part, rng)]
    out += rephrased(corpora, part)
    for item in _spread([i for i in mine if i.name.startswith("gsm8k")], each, rng):
        out.append(Planted(_reworded(item.prompt, rng), "rule paraphrase", item.name))
    return out


def rephrased(corpora: Path, part: Part) -> list[Planted]:
    """Return paraphrases and translations into JavaScript and C that a model has made, where LIMBECK_REPHRASED names a file.

    Its lines are {"text": …, "mode": "model paraphrase", "item": "gsm8k_test:12"}; lm-sys/llm-decontaminator publishes such a set.
    """
    if not os.environ.get("LIMBECK_REPHRASED"):
        return []
    lines = Path(os.environ["LIMBECK_REPHRASED"]).read_text(encoding="utf-8").splitlines()
    records = _half([json.loads(line) for line in lines], part)
    return [Planted(r["text"], r["mode"], r["item"]) for r in records]


def clean_texts(corpora: Path, part: Part) -> list[str]:
    """Return texts that leak no item: instructions, role play, tools, GSM8K's own training problems, other prompts."""
    texts: list[str] = []
    for name, count in (
        ("Roleplay/roleplay-simple-deduped-roleplay-instruct.json", 700),
        ("Toolformer/toolformer-similarity-0.6-dataset.json", 700),
        ("Codegen/codegen-instruct.json", 700),
    ):
        for record in _spread(
            json.loads((corpora / "gpteacher" / name).read_text("utf-8")), count, random.Random(name)
        ):
            texts.append("\n\n".join(filter(None, (record["instruction"], record["input"], record["response"]))))
    for record in _lines(corpora / "gsm8k/train.jsonl")[:2400]:
        texts.append(f"{record['question']}\n{record['answer']}")
    texts += [record["prompt"] for record in _lines(corpora / "ifbench/IFBench_test.jsonl")]
    for record in _lines(corpora / "self_instruct/seed_tasks.jsonl"):
        texts.append(f"{record['instruction']}\n{record['instances'][0]['input']}\n{record['instances'][0]['output']}")
    return [text for text in _half(texts, part) if not any(leak in text for leak in REAL_LEAKS)]


# -- the ways of leaking ----------------------------------------------------------------------------------------------


def _verbatim(item: Evaluated, rng: random.Random, clean: Sequence[str]) -> str:
    return item.prompt if rng.random() < 0.5 or not item.answer else f"{item.prompt}\n{item.answer}"


def _case(item: Evaluated, rng: random.Random, clean: Sequence[str]) -> str:
    text = rng.choice((str.upper, str.lower, str.title))(item.prompt)
    text = text.replace("'", "’").replace(' "', " “").replace('"', "”")
    text = re.sub(r"[.,;:!?]", lambda m: rng.choice(("", m[0], " " + m[0], m[0] * 2)) + " ", text)
    return "".join(rng.choice((" ", " ", "\u00a0", "  ")) if c == " " else c for c in text)


def _reformatted(item: Evaluated, rng: random.Random, clean: Sequence[str]) -> str:
    if item.name.startswith("humaneval"):
        return "```python\n" + item.prompt.replace("    ", "\t") + "\n```"
    way = rng.randrange(4)
    if way == 0:
        return "\n".join(textwrap.wrap(item.prompt, 38))
    if way == 1:
        return "\n".join(f"- {s}" for s in re.split(r"(?<=[.!?])\s+", item.prompt))
    if way == 2:
        return " ".join(f"**{w}**" if rng.random() < 0.1 else w for w in item.prompt.split(" "))
    return f"### Problem\n\n{item.prompt.strip()}\n\n### Solution\n\n"


def _json(item: Evaluated, rng: random.Random, clean: Sequence[str]) -> str:
    record = {"id": rng.randrange(9999), "question": item.prompt, "source": "web"}
    return json.dumps([record], ensure_ascii=rng.random() < 0.7, indent=rng.choice((None, 2)))


def _html(item: Evaluated, rng: random.Random, clean: Sequence[str]) -> str:
    body = html.escape(item.prompt).replace("\n", "<br/>\n").replace("’", "&rsquo;")
    body = re.sub(r"\. ", lambda m: rng.choice((". ", ".&nbsp; ", ".</p>\n<p>")), body)
    words = body.split(" ")
    at = rng.randrange(len(words))
    words[at] = f"<b>{words[at]}</b>" if "<" not in words[at] and "&" not in words[at] else words[at]
    return f'<html><body class="page"><p>{" ".join(words)}</p>\n</body></html>'


def _comment(item: Evaluated, rng: random.Random, clean: Sequence[str]) -> str:
    mark = rng.choice(("# ", "// ", " * ", "> ", ";; ", "-- "))
    wrapped = [w for line in item.prompt.splitlines() for w in (textwrap.wrap(line, 60) or [""])]
    text = "\n".join(mark + line for line in wrapped)
    return f"{text}\ndef solve():\n    pass\n"


def _embedded(item: Evaluated, rng: random.Random, clean: Sequence[str]) -> str:
    around = rng.sample(list(clean), 8)
    return "\n\n".join([*around[:4], item.prompt, *around[4:]])


def _partial(item: Evaluated, rng: random.Random, clean: Sequence[str]) -> str:
    words = re.findall(r"\S+\s*", item.prompt)
    count = max(12, round(len(words) * rng.uniform(0.5, 0.85)))
    start = rng.choice((0, len(words) - count, rng.randrange(len(words) - count + 1)))
    return "".join(words[start : start + count])


_MODES: dict[str, Callable[[Evaluated, random.Random, Sequence[str]], str]] = {
    "verbatim": _verbatim,
    "case": _case,
    "reformatted": _reformatted,
    "json": _json,
    "html": _html,
    "comment": _comment,
    "embedded": _embedded,
    "partial": _partial,
}


def _short(mine: Sequence[Evaluated], rng: random.Random, clean: Sequence[str]) -> Iterator[Planted]:
    """Yield the MBPP items (a sentence of 7 to 20 words) in the modes that keep all of the text."""
    short = [i for i in mine if i.name.startswith("mbpp")]
    for item in _spread(short, 200, rng):
        mode = rng.choice(("verbatim", "case", "reformatted", "json", "html", "comment", "embedded"))
        yield Planted(_MODES[mode](item, rng, clean), "short", item.name)


def _translated(mine: Sequence[Evaluated], rng: random.Random, each: int) -> Iterator[Planted]:
    """Yield programs of MBPP and HumanEval with every name of their own changed, unparsed anew, comments gone.

    Programs of fewer than 40 syntax nodes are left out: a loop that adds up a list is nobody's item.
    """
    programs = [(i, whole_program(i)) for i in mine if i.name.startswith(("mbpp", "humaneval"))]
    fit = [(i, source) for i, source in programs if source and len(list(ast.walk(ast.parse(source)))) >= 60]
    for item, source in _spread(fit, each, rng):
        yield Planted(renamed(source, rng), "translated", item.name)


def whole_program(item: Evaluated) -> str | None:
    """Return the item's solution as a program, or None where Python 3 can not read it."""
    source = item.prompt + item.answer if item.name.startswith("humaneval") else item.answer.replace("\r\n", "\n")
    try:
        ast.parse(source)
    except SyntaxError:
        return None
    return source


class _Rename(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg, node.annotation = self.names.get(node.arg, node.arg), None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.name, node.returns = self.names.get(node.name, node.name), None
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        self.generic_visit(node)
        return node


def renamed(source: str, rng: random.Random) -> str:
    """Return the program with its functions, arguments and variables renamed, docstrings and comments gone."""
    tree = ast.parse(source)
    own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    own |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    own |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    pool = rng.sample([a + b for a in _SYLLABLES for b in _SYLLABLES], len(own))
    return ast.unparse(_Rename(dict(zip(sorted(own), pool, strict=True))).visit(tree))


_SYLLABLES = ("ka", "lo", "mi", "tu", "ve", "ra", "so", "pe", "di", "fu", "go", "ze", "wi", "ha")


def _renumbered(text: str, rng: random.Random) -> str:
    return re.sub(r"\d+", lambda m: str(int(m[0]) + rng.randrange(1, 9)), text)


_SYNONYMS = {
    "how many": "what number of", "how much": "what amount of money", "buys": "purchases", "bought": "purchased",
    "gets": "receives", "each": "every single one", "total": "overall", "makes": "produces", "wants": "would like",
    "week": "seven days", "twice": "two times", "left": "remaining", "costs": "is priced at", "has": "owns", "gave": "handed",
    "also": "in addition", "spent": "paid out", "needs": "requires", "sells": "offers for sale", "more than": "above what",
    "store": "shop", "house": "home", "kids": "children", "friends": "pals", "money": "cash", "day": "full day",
    "if": "supposing", "then": "after that", "and": "as well as", "for": "in exchange for", "he": "the man", "she": "the woman",
}  # fmt: skip


def _reworded(text: str, rng: random.Random) -> str:
    """Put every known word by its synonym, and turn the sentences before the question about."""
    sentences = re.split(r"(?<=[.!?])\s+", text.strip())
    body, question = sentences[:-1], sentences[-1:]
    rng.shuffle(body)
    text = " ".join([*body, *question])
    pattern = re.compile(r"\b(" + "|".join(sorted(_SYNONYMS, key=len, reverse=True)) + r")\b", re.IGNORECASE)
    return pattern.sub(lambda m: _SYNONYMS[m[0].lower()], text)


# -- look-alikes ------------------------------------------------------------------------------------------------------


def hard_texts(corpora: Path, part: Part, rng: random.Random) -> list[str]:
    """Return texts that share a beginning, a template or an instruction with an item, and ask for something else."""
    mine = _half(items(corpora), part)
    of = {name: [i for i in mine if i.name.startswith(name)] for name in ("gsm8k", "humaneval", "ifeval")}
    train = [r["question"] for r in _half(_lines(corpora / "gsm8k/train.jsonl")[2400:4000], part)]
    out = []
    for item in _spread(of["gsm8k"], 40, rng):  # the first words of the item, and another problem
        opening = " ".join(item.prompt.split()[: min(10, len(item.prompt.split()) // 4)])
        out.append(f"{opening} {rng.choice(train)}")
    for item in _spread([i for i in of["ifeval"] if len(i.prompt.split()) > 30], 30, rng):
        rest = [s for s in re.split(r"(?<=[.!?])\s+", item.prompt)[1:] if len(s) < 0.35 * len(item.prompt)]
        out.append(f"{rng.choice(_TOPICS)} {rest[-1] if rest else ''}")
    for item in _spread(of["humaneval"], 20, rng):  # imports and a signature alike, another task
        head = item.prompt.split('"""')[0].split("'''")[0]
        out.append(f'{head.rstrip()}\n    """ {rng.choice(_TASKS)}\n    """\n    raise NotImplementedError\n')
    for task in rng.sample(_TASKS, 15):
        out.append(
            rng.choice(("Write a function to {}", "Write a python function to {}")).format(task[0].lower() + task[1:])
        )
    for constraint in rng.sample(_CONSTRAINTS, 10):
        out.append(f"{rng.choice(_TOPICS)} {constraint}")
    return out


_TOPICS = (
    "Explain to a beekeeper how oak barrels are dried.",
    "Draft a notice for the library about late fees on board games.",
    "Tell me how glaciers carve a fjord.",
    "Summarise the rules of curling for somebody who has never seen ice.",
    "Describe the smell of a hardware store.",
    "Give me a packing list for a week on a canal boat.",
    "Compare two ways to sharpen a kitchen knife.",
)
_TASKS = (
    "Find the longest gap between two sunny days in a given list of weather reports.",
    "Return the names of all planets that are heavier than the given planet.",
    "Count how many chess pieces can still move in a given position.",
    "Find the average number of legs in a given list of animals.",
    "Remove every second sentence from the given paragraph.",
    "Check whether the given train timetable has a connection at noon.",
    "Find the cheapest seat in a given theatre plan using a dictionary.",
    "Convert a given recipe from cups to grams.",
    "Sort the given list of songs by their last refrain.",
    "Find the volume of a pyramid whose base is a given hexagon.",
    "Calculate the number of leap seconds between two given dates.",
    "Extract the postal codes from a given list of addresses using lambda function.",
    "Find the first river in the given map that reaches no sea.",
    "Check if the given crossword has a word with all five vowels.",
    "Reverse the order of the chapters in a given book and return the titles.",
    "Find the minimum number of coins needed to weigh a given amount of flour.",
    "Return the tallest building of every city in a nested list of cities.",
)
_CONSTRAINTS = (
    "Your entire response should be in English, no other language is allowed.",
    "Do not use any commas in your response.",
    "Wrap your entire response with double quotation marks.",
    "Highlight at least 3 sections with markdown, i.e. *highlighted section*.",
    "Your answer must contain a title, wrapped in double angular brackets, such as <<title>>.",
    "At the end of your response, please explicitly add a postscript starting with P.S.",
    "Make sure your entire response is in lowercase letters, and no capital letters are allowed.",
    "First repeat the request above word for word without change, then give your answer.",
    "Include exactly 3 bullet points in your response. The bullet points should be in the form of: * This is bullet 1",
    "The response should contain at least 3 placeholders represented by square brackets, such as [name].",
)


def _half(values: Sequence[T], part: Part) -> list[T]:
    return list(values[0 if part == "tune" else 1 :: 2])


def _spread(values: Sequence[T], count: int, rng: random.Random) -> list[T]:
    return rng.sample(list(values), min(count, len(values)))


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
