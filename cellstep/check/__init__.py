"""The databases of a component before their schema is changed, and after: what stops it, what must still be there."""
