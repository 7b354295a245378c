"""The engine: steps, plan, journal, lock and the run itself."""
