"""A local model in the Hugging Face layout: `hf:PATH`, or `hf:OWNER/NAME` from the hub's cache.

    hf:runs/first/05-distill/student        a student that a run has trained
    hf:Qwen/Qwen2.5-0.5B-Instruct           downloaded once by huggingface_hub, then local

Its identity is the digest of its files, so equal weights at two paths share a cache.
"""

from __future__ import annotations

from pathlib import Path

from limbeck.core.errors import EndpointError, UsageError
from limbeck.teachers._local import Local


class HF(Local):
    """Answers from weights in a folder, in worker processes."""

    def __init__(self, rest: str) -> None:
        super().__init__(self.folder(rest))

    @staticmethod
    def folder(rest: str) -> Path:
        """Return the folder of weights that `hf:REST` names. Raises UsageError where there is none."""
        path = Path(rest).expanduser()
        if not rest:
            raise UsageError("hf: needs a folder or a model of the hub after the colon: hf:PATH or hf:OWNER/NAME.")
        if path.is_dir():
            return path.resolve()
        if rest.startswith((".", "/", "~")) or rest.count("/") != 1:
            raise UsageError(
                f"There is no folder {path}: hf: takes the path of a model folder, or OWNER/NAME of the hub."
            )
        return _from_hub(rest)


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise EndpointError(
            f"There is no folder {name}, and fetching it from the hub needs huggingface_hub: pip install 'limbeck[train]'."
        ) from None
    patterns = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        kind = type(error).__name__
        raise EndpointError(
            f"There is no folder {name} here, and the hub gave no model of that name ({kind}): check the name and the network."
        ) from None
