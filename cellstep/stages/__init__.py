"""The runbooks: one module a stage, one line a step."""
