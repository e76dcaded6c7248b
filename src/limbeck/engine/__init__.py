"""How a run is executed: scheduling, cache, run folder. Finds steps by name and imports no room."""
