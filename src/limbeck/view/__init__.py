"""How a run is shown: the report and the progress of a run under way."""
