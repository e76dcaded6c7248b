"""Train the embedded teacher and base student from scratch, on one CPU core, and measure them.

    python scripts/train_embedded.py tokenizer
    python scripts/train_embedded.py teacher --minutes 75
    python scripts/train_embedded.py student --minutes 9
    python scripts/train_embedded.py export
    python scripts/train_embedded.py evaluate --problems 300

Everything is seeded; work goes to `--work` (checkpoints, token pools), and a run that was stopped goes on from its checkpoint. The
schedule follows the clock, so two runs on different machines give equally good, not equal, weights. `export` writes what has been
trained so far into the package, `evaluate` the cards beside it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "src")]

import torch  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

from embedded import card, export, student, teacher, tokens  # noqa: E402
from embedded.model import config_of  # noqa: E402

PARTS = {"teacher": teacher, "student": student}


def main() -> None:
    """Read the command line and run one part."""
    options = read_command_line()
    torch.set_num_threads(1)
    if options.part == "tokenizer":
        tokens.train_tokenizer(options.work / "tokenizer", options.seed)
    elif options.part in PARTS:
        tokenizer = AutoTokenizer.from_pretrained(options.work / "tokenizer")
        PARTS[options.part].train(tokenizer, options.work / options.part, options.minutes, options.seed)
    elif options.part == "export":
        write_models(options.work, options.to)
    else:
        write_cards(options)


def read_command_line() -> argparse.Namespace:
    """Describe and read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["tokenizer", "teacher", "student", "export", "evaluate"])
    parser.add_argument("--minutes", type=float, default=75.0, help="the time budget of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/embedded"), help="checkpoints and token pools")
    parser.add_argument(
        "--to", type=Path, default=Path("src/limbeck/teachers/weights"), help="where finished models go"
    )
    parser.add_argument("--only", choices=sorted(PARTS), help="evaluate one model only")
    parser.add_argument("--problems", type=int, default=300, help="unseen problems of each family in the evaluation")
    parser.add_argument("--student-seeds", type=int, default=2, help="fine-tunings of the base student for each arm")
    return parser.parse_args()


def write_models(work: Path, to: Path) -> None:
    """Write whatever has been trained so far."""
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    for name, part in PARTS.items():
        if (work / name / "checkpoint.pt").exists():
            state = torch.load(work / name / "checkpoint.pt", weights_only=True)["model"]
            export.export(state, config_of(**part.SHAPE, vocabulary=tokens.SIZE), tokenizer, to / name)


def write_cards(options: argparse.Namespace) -> None:
    """Measure the exported models and write their cards."""
    for name, part in PARTS.items():
        if options.only in (None, name):
            training = card.training_of(options.work, name, options.seed, part.SHAPE, part.NOTES, part.MINUTES)
            if name == "teacher":
                card.write_teacher(options.to / name, training, options.problems)
            else:
                card.write_student(options.to / name, training, options.to / "teacher", options.student_seeds)


if __name__ == "__main__":
    main()
