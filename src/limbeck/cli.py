"""The command line: parses, calls `limbeck.api`, prints. It holds no logic of its own.

    limbeck run quickstart --out runs/first        any parameter of the recipe is an option
    limbeck apply score.math answers.jsonl --map response=solution --map reference=truth
    limbeck list score.math                        what a step, recipe or teacher takes

Exit codes: 0 done, 1 failed, 2 bad usage, 3 budget reached, 4 tolerance exceeded, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import logging
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
Target = Annotated[str | None, typer.Option("--out", help="Folder (or URL, with --backend ray) to write to.")]
Budget = Annotated[float | None, typer.Option(min=0, help="Most US dollars the run may spend, over all its sessions.")]
Prices = Annotated[Path | None, typer.Option(help="A file of prices that go before the package's own.")]
Concurrency = Annotated[int | None, typer.Option(min=1, help="Most requests under way at an endpoint.")]
Rpm = Annotated[float | None, typer.Option(help="Most requests a minute at an endpoint.")]
Tpm = Annotated[float | None, typer.Option(help="Most tokens a minute at an endpoint.")]
Tolerate = Annotated[
    str | None, typer.Option(help="Largest share of rows a step may lose, such as 2%; over it the exit code is 4.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines for programs instead of text for people.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


@app.command(context_settings=EXTRA)
def run(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe's name, path.py, or a stored recipe.json.")],
    out: Target = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Training processes side by side; default: one a core.")
    ] = None,
    budget: Budget = None,
    tolerate: Tolerate = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Most requests under way at an endpoint.")] = None,
    rpm: Annotated[float | None, typer.Option(help="Most requests a minute at an endpoint.")] = None,
    tpm: Annotated[float | None, typer.Option(help="Most tokens a minute at an endpoint.")] = None,
    prices: Prices = None,
    retry_dropped: Annotated[
        bool, typer.Option("--retry-dropped", help="Ask again for rows that were refused, failed or given up.")
    ] = False,
    backend: Annotated[str, typer.Option(help="local, or ray for many machines.")] = "local",
    ray_address: Annotated[str | None, typer.Option(help="The Ray cluster to join, such as auto.")] = None,
    shard_rows: Annotated[int | None, typer.Option(min=1, help="Rows in a shard of the ray backend.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe, or go on with it where it stopped. The recipe's parameters are options: --samples 8."""
    result = api.run(
        recipe,
        out=out,
        workers=workers,
        budget=budget,
        tolerate=_share(tolerate),
        concurrency=concurrency,
        rpm=rpm,
        tpm=tpm,
        prices=prices,
        retry_dropped=retry_dropped,
        backend=backend,  # type: ignore[arg-type]
        ray_address=ray_address,
        shard_rows=shard_rows,
        progress=_progress(as_json, quiet),
        **_options(context.args, recipe),
    )
    if not as_json:
        print(*api.findings(result), sep="\n", end="\n" if api.findings(result) else "")
        _say_where(result)


@app.command(context_settings=EXTRA)
def plan(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe's name, path.py, or a stored recipe.json.")],
    pilot: Annotated[int, typer.Option(min=1, help="Rows of each source to try; their answers are cached.")] = 16,
    pilot_seed: Annotated[int, typer.Option(help="Which rows: drawn at random with this seed.")] = 0,
    first: Annotated[bool, typer.Option("--first", help="Try the first rows, not random ones.")] = False,
    budget: Annotated[float | None, typer.Option(min=0, help="Most US dollars the pilot may spend.")] = None,
    concurrency: Concurrency = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    prices: Prices = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what a recipe will take - rows, calls, tokens, money, time - from a small pilot."""
    made = api.plan(
        recipe,
        pilot=pilot,
        pilot_seed=None if first else pilot_seed,
        budget=budget,
        concurrency=concurrency,
        rpm=rpm,
        tpm=tpm,
        prices=prices,
        progress="none" if as_json or quiet or not sys.stderr.isatty() else "auto",
        **_options(context.args, recipe),
    )
    if as_json:
        print(json.dumps(made.record()))
        return
    from limbeck.view.forecast import lines

    print(*lines(made.record()), sep="\n")


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
    budget: Budget = None,
    tolerate: Tolerate = None,
    prices: Prices = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run any one step over files: kept and dropped rows, with reasons. The step's fields are options."""
    _check_first(step)
    inputs, options = api.split_words([*(files or []), *context.args], api.step_flags(step))
    fields = api.step_options(step, options)
    mapping = dict(_pair(m) for m in map_ or [])
    result = api.apply(
        step,
        inputs,
        out=out,
        map=mapping,
        limit=limit,
        budget=budget,
        tolerate=_share(tolerate),
        prices=prices,
        progress=_progress(as_json, quiet),
        **fields,
    )
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
    from limbeck.view.status import lines

    print(*lines(steps, why=why), sep="\n")


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
    handler = _show_logs()
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
    finally:
        logging.getLogger("limbeck").removeHandler(handler)


def _show_logs() -> logging.Handler:
    """Show what teachers say on the way (a parameter that a server does not know, how far a batch is) as lines on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("limbeck: %(message)s"))
    log = logging.getLogger("limbeck")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    return handler


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


def _share(text: str | None) -> float | None:
    """Read `2%` or `0.02` as a share."""
    if text is None:
        return None
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"--tolerate {text} is no share of rows; write 2% or 0.02.")
    return value


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
