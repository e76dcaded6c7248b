"""Limbeck turns a strong teacher's capability into a verified corpus and a small student, and measures the result.

    import limbeck
    limbeck.run("quickstart")                                       # a recipe, whole
    limbeck.apply("score.math", "solutions.jsonl", map={"response": "solution"})
    limbeck.score.math.equivalent("1/2", "0.5")                     # True

Everything is imported on first use: `import limbeck` loads neither torch nor pyarrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.api import apply as apply
    from limbeck.api import diff as diff
    from limbeck.api import plan as plan
    from limbeck.api import run as run
    from limbeck.api import status as status

__version__ = "0.1.0"

_FUNCTIONS = ("run", "plan", "apply", "status", "diff")
_MODULES = [
    "api",
    "core",
    "engine",
    "teachers",
    "sandbox",
    "seeds",
    "prompts",
    "generate",
    "score",
    "select",
    "curate",
    "mix",
    "train",
    "evaluate",
    "audit",
    "view",
    "recipes",
]
_NAMES = {
    "Row": "row",
    "Message": "row",
    "Usage": "row",
    "Ask": "ask",
    "Reply": "ask",
    "Recipe": "recipe",
    "Loop": "recipe",
}
_NAMES |= dict.fromkeys(("Drop", "Source", "Each", "Prompt", "Whole", "Make"), "step")


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(import_module("limbeck.api"), name)
    if name in _NAMES:
        return getattr(import_module(f"limbeck.core.{_NAMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"limbeck.{name}")
    raise AttributeError(f"module 'limbeck' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*_FUNCTIONS, *_MODULES, *_NAMES, "__version__"])
