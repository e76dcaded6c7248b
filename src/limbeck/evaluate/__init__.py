"""A model on sealed prompts, with intervals, and models against each other. A room: one step a file."""

from limbeck.core.find import lazily

__getattr__ = lazily(__name__)
