"""Cells that only a worker inside them reaches: what travels, the worker, and the scheduler between."""
