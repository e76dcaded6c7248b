"""A set of rows against itself or another set: duplicates, contamination. A room: one step a file."""

from limbeck.core.find import lazily

__getattr__ = lazily(__name__)
