"""Named recipes, one per published method: functions that return a Recipe."""

from limbeck.core.find import lazily

__getattr__ = lazily(__name__)
