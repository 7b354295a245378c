"""The lab: a small real cloud on one machine."""
