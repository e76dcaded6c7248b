"""Everything that answers asks: one class a file, named after the file."""

from limbeck.core.find import lazily

__getattr__ = lazily(__name__)
