"""The command line: parses, calls `limbeck.api`, prints. It holds no logic of its own.

    limbeck run quickstart --out runs/first        any parameter of the recipe is an option
    limbeck apply score.math answers.jsonl --map response=solution --map reference=truth
    limbeck list score.math                        what a step, recipe or teacher takes

Exit codes: 0 done, 1 failed, 2 bad usage, 3 budget reached, 4 tolerance exceeded, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck import __version__, api
from limbeck.core.errors import LimbeckError, UsageError

HELP = """From a strong teacher to a verified corpus, a small student and an honest report.

\b
  limbeck run quickstart                  the whole loop, offline, in minutes
  limbeck list                            recipes, steps and teachers
  limbeck list score.math                 what one of them takes
  limbeck apply score.math FILE --map response=solution --map reference=truth

\b
Exit codes: 0 done, 1 failed, 2 bad usage, 3 budget reached,
4 tolerance exceeded, 130 stopped by Ctrl-C.
"""

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, help=HELP
)
EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}

Out = Annotated[Path | None, typer.Option(help="Folder to write to; default: runs/NAME.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines for programs instead of text for people.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


@app.command(context_settings=EXTRA)
def run(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe's name, path.py, or a stored recipe.json.")],
    out: Out = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Training processes side by side; default: one a core.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe, or go on with it where it stopped. The recipe's parameters are options: --samples 8."""
    result = api.run(
        recipe, out=out, workers=workers, progress=_progress(as_json, quiet), **_options(context.args, recipe)
    )
    if not as_json:
        print(*api.findings(result), sep="\n", end="\n" if api.findings(result) else "")
        _say_where(result)


@app.command(context_settings=EXTRA)
def plan(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe's name, path.py, or a stored recipe.json.")],
    pilot: Annotated[int, typer.Option(min=1, help="Rows to try it on; their answers are cached.")] = 16,
    as_json: Json = False,
) -> None:
    """Say what a recipe will take - calls, tokens, seconds - from a small pilot."""
    lines = api.plan(recipe, pilot=pilot, **_options(context.args, recipe))
    if as_json:
        print(json.dumps([vars(line) for line in lines]))
        return
    rows: list[Sequence[Any]] = []
    for e in lines:
        measured = (f"{e.rows:,}", f"{e.calls:,}", f"{e.tokens_in:,}", f"{e.tokens_out:,}", f"{e.seconds:,.0f}")
        rows.append(
            (e.step, *(measured if e.measured else ("not measured: it trains, or needs what does", "", "", "", "")))
        )
    _table(("step", "rows", "answers", "tokens in", "tokens out", "seconds"), rows)
    print(f"Estimated from the first {pilot} rows; the pilot's answers are in the cache and will not be bought again.")


@app.command(context_settings=EXTRA)
def apply(
    context: typer.Context,
    step: Annotated[str, typer.Argument(help="A step such as score.math, or path.py:Class.")],
    files: Annotated[list[str] | None, typer.Argument(help="JSONL, JSON, CSV or Parquet files or folders.")] = None,
    out: Out = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="prompt=question says what a field is; repeat.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read at most so many rows.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run any one step over files: kept and dropped rows, with reasons. The step's fields are options."""
    _check_first(step)
    inputs, options = api.split_words([*(files or []), *context.args], api.step_flags(step))
    fields = api.step_options(step, options)
    mapping = dict(_pair(m) for m in map_ or [])
    result = api.apply(step, inputs, out=out, map=mapping, limit=limit, progress=_progress(as_json, quiet), **fields)
    summary = api.summary(result)
    if as_json:
        print(json.dumps(summary))
    else:
        _print_summary(summary)
        _say_where(result)
    if summary["problem"]:
        raise LimbeckError(summary["problem"])


@app.command()
def status(
    folder: Annotated[str, typer.Argument(help="A run folder.")],
    why: Annotated[bool, typer.Option("--why", help="Say why each step would run again.")] = False,
    as_json: Json = False,
) -> None:
    """Say what of a run is done, what remains, and what it has cost."""
    steps = api.status(folder)
    if as_json:
        print(json.dumps(steps))
        return
    rows = []
    for s in steps:
        counts, usage = s["rows"] or {}, s["usage"] or {}
        state = "done" if s["done"] else "to do"
        cells = (
            counts.get("kept", ""),
            counts.get("dropped", ""),
            usage.get("answers", ""),
            usage.get("tokens_out", ""),
        )
        rows.append((s["name"], s["step"], state, *cells, *([s["why"]] if why else [])))
    _table(("step", "kind", "state", "kept", "dropped", "answers", "tokens out", *(["why"] if why else [])), rows)


@app.command()
def diff(left: str, right: str, as_json: Json = False) -> None:
    """Say how two runs differ: options, rows, accuracy."""
    changes = api.diff(left, right)
    if as_json:
        print(json.dumps(changes))
        return
    for change in changes:
        print(change["name"] + (f": only in the {change['only']} run" if change["only"] else ""))
        for key, (a, b) in change["options"].items():
            print(f"  {key}: {a!r} -> {b!r}")
        for key in ("rows", "accuracy"):
            if key in change:
                print(f"  {key}: {change[key][0]} -> {change[key][1]}")
    if not changes:
        print("The runs have the same steps, options, rows and results.")


@app.command("list")
def list_(name: Annotated[str, typer.Argument(help="steps, recipes, teachers, or one of them by name.")] = "") -> None:
    """List recipes, steps and teachers, or say what one of them takes."""
    for title, entries in api.catalogue(name).items():
        print(title)
        _table((), [(f"  {key}", text) for key, text in entries.items()])


@app.command()
def report(folder: Annotated[str, typer.Argument(help="A run folder.")]) -> None:
    """Write (again) the report of a run: one HTML file that opens anywhere."""
    print(api.report(folder))


@app.command()
def export(
    folder: Annotated[
        str, typer.Argument(help="A step's folder such as runs/quickstart/05-verified, or a Parquet file.")
    ],
    format_: Annotated[str, typer.Option("--format", help="trl, axolotl, llamafactory, openai or hf.")] = "trl",
    out: Annotated[Path | None, typer.Option(help="File (or folder, for hf) to write.")] = None,
) -> None:
    """Write a step's kept rows in the format of a trainer."""
    path, count = api.export(folder, format_, out)
    print(f"{count:,} rows written to {path}")


def main() -> None:
    """Run the command line; every error that is meant for people becomes one sentence and an exit code."""
    try:
        app(standalone_mode=True)
    except LimbeckError as error:
        print(f"limbeck: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == 130:  # typer's word for Ctrl-C
            print(
                "limbeck: Stopped. Every answer so far is kept; run the same command again to go on.", file=sys.stderr
            )
        raise


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"limbeck {__version__}")
        raise typer.Exit


def _options(args: Sequence[str], first: str) -> dict[str, Any]:
    """Read the options of a recipe from the words that typer left over."""
    _check_first(first)
    plain, options = api.split_words(args)
    if plain:
        raise UsageError(f"'{plain[0]}' is not an option; write --NAME VALUE.")
    return options


def _check_first(first: str) -> None:
    if first.startswith("-"):
        raise UsageError(f"Write the name of the recipe or step first, and '{first}' after it.")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--map {text} has no '='; write --map prompt=question.")
    return key, value


def _progress(as_json: bool, quiet: bool) -> api.Progress:
    return "json" if as_json else "none" if quiet else "auto"


def _say_where(result: api.Result) -> None:
    page = result.folder / "report.html"
    print(f"Rows, reasons and results: {result.folder}" + (f"\nReport: {page}" if page.is_file() else ""))


def _print_summary(summary: dict[str, Any]) -> None:
    print("{in:,} in: {kept:,} kept, {dropped:,} dropped".format(**summary["rows"]))
    lines = [(f"  {count:,}", reason) for reason, count in summary["reasons"].items()]
    lines += [
        (f"  {mean:.4f}", f"mean {score} of {count:,} rows") for score, (mean, count) in summary["scores"].items()
    ]
    lines += [(f"  {count:,}", text) for text, count in summary["labels"].items()]
    lines += [("", sentence) for sentence in summary["sentences"]]
    _table((), lines)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    cells = [[str(c) for c in row] for row in ([heads, *rows] if heads else rows)]
    if not cells:
        return
    widths = [max(len(row[i]) for row in cells if i < len(row)) for i in range(max(map(len, cells)))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())


if __name__ == "__main__":
    main()
