"""Write the numbers of a finished quickstart, and of the embedded models' cards, into the documentation.

    limbeck run quickstart
    python scripts/write_numbers.py runs/quickstart
    python scripts/report_picture.py runs/quickstart/report.html docs/img/report.png

They go between `<!-- numbers: NAME -->` and `<!-- end of numbers -->` in README.md, docs/quickstart.md and docs/embedded.md.
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "src" / "limbeck" / "teachers" / "weights"


def main() -> None:
    """Read the command line and write all sections that can be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished quickstart")
    options = parser.parse_args()
    compared = _json(next(options.run.glob("*-compare/compare.json")))
    seconds = _seconds(options.run)
    write("README.md", "story", story(compared, seconds))
    write("docs/quickstart.md", "quickstart", quickstart(options.run, compared, seconds))
    if (WEIGHTS / "teacher" / "card.json").is_file():
        write("docs/embedded.md", "teacher", teacher(_json(WEIGHTS / "teacher" / "card.json")))
    if (WEIGHTS / "student" / "card.json").is_file():
        write("docs/embedded.md", "student", student(_json(WEIGHTS / "student" / "card.json")))


def write(page: str, name: str, text: str) -> None:
    """Replace one marked section of a page."""
    path = ROOT / page
    pattern = re.compile(rf"(<!-- numbers: {name} -->\n).*?(<!-- end of numbers -->)", re.DOTALL)
    changed, count = pattern.subn(
        lambda found: f"{found[1]}{text.strip()}\n{found[2]}", path.read_text(encoding="utf-8")
    )
    if count != 1:
        raise SystemExit(f"{page} has {count} sections named '{name}'; it should have one.")
    path.write_text(changed, encoding="utf-8")
    print(f"{page}: {name}")


def story(compared: dict[str, Any], seconds: int) -> str:
    """Return the one-line result."""
    shares = ", ".join(f"{arm['name']} {100 * arm['accuracy']['mean']:.1f} %" for arm in compared["arms"])
    prompts = compared["arms"][0]["prompts"]
    return (
        f"`{compared['story']}` (`<` resolved, `?` not resolved at 95 %): {shares} of {prompts} sealed problems, "
        f"from `limbeck run quickstart` in {seconds} seconds on two cores."
    )


def quickstart(run: Path, compared: dict[str, Any], seconds: int) -> str:
    """Return the table of arms and the sentences about pairs."""
    parameters = _json(run / "recipe.json")["params"]
    lines = [
        "## What came out",
        "",
        f"`limbeck run quickstart` with its defaults (seed {parameters['seed']}) took {seconds} seconds on two cores "
        "and gave this. Another machine or version of torch gives other digits.",
        "",
        _funnel(run),
        "",
        "| arm | right | 95 % interval | each training seed |",
        "|---|---|---|---|",
        *(_arm(arm) for arm in compared["arms"]),
        "",
        "In short, with `<` for a resolved difference and `?` for one that is not:",
        "",
        f"    {compared['story']}",
        "",
        *(f"- {sentence}" for sentence in compared["sentences"]),
    ]
    return "\n".join(lines)


def _funnel(run: Path) -> str:
    rows = {path.parent.name.split("-", 1)[1]: _json(path)["rows"] for path in run.glob("[0-9]*-*/step.json")}
    return (
        f"The teacher gave {rows['samples']['kept']:,} samples to {rows['problems']['kept']:,} problems. "
        f"{rows['passed']['kept']:,} problems had one that passed; {rows['verified']['kept']:,} rows were left after duplicates."
    )


def _arm(arm: dict[str, Any]) -> str:
    found = arm["accuracy"]
    runs = ", ".join(f"{100 * mean:.1f}" for mean in arm["runs"])
    return f"| {arm['name']} | {100 * found['mean']:.1f} % | {100 * found['low']:.1f} to {100 * found['high']:.1f} | {runs} |"


def teacher(card: dict[str, Any]) -> str:
    """Return what the teacher's card says of each family."""
    training = card["training"]
    lines = [
        f"A plain Llama of {training['parameters']:,} parameters. On problems of the test split, from its "
        "[card](../src/limbeck/teachers/weights/teacher/card.md), which has skills, difficulties and kinds of error too:",
        "",
        "| family | problems | greedy | 95 % interval | pass@1 at temperature 1 | pass@8 |",
        "|---|---|---|---|---|---|",
    ]
    for family, row in card["families"].items():
        low, high = row["greedy_interval"]
        shares = f"{row['greedy']:.3f} | {low:.3f} to {high:.3f} | {row['pass_at_1']:.3f} | {row['pass_at_8']:.3f}"
        lines.append(f"| {family} | {row['problems']} | {shares} |")
    return "\n".join(lines)


def student(card: dict[str, Any]) -> str:
    """Return what the base student's card says."""
    base, training = card["base"], card["training"]
    return (
        f"A plain Llama of {training['parameters']:,} parameters with the teacher's tokenizer. Without fine-tuning it "
        f"solves {base['right']} of {base['problems']} unseen word problems and chains; its "
        "[card](../src/limbeck/teachers/weights/student/card.md) says what fine-tuning gives."
    )


def _seconds(run: Path) -> int:
    begun = datetime.fromisoformat(_json(run / "env.json")["started"]).timestamp()
    ended = [path.stat().st_mtime for path in run.glob("[0-9]*-*/done")]
    if min(ended) < begun:
        raise SystemExit(f"{run} was not made in one go, so its duration is not known; run it in a fresh folder.")
    return round(max(ended) - begun)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
