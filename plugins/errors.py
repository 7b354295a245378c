"""The root of everything that is raised on purpose; `cellstep/errors.py` draws the whole tree."""


class OperatorError(Exception):
    """Something that an operator can act on: its text is one line that says what, where, and what to do."""
