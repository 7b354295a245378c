"""Nornir plugins; they know no OpenStack."""
