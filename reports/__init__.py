"""Tables from facts, and their writers."""
