"""The preflight: what would stop an upgrade, found days ahead. A new check is a rule in `rules.py`."""
