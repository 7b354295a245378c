"""A node's clock against this machine's, from one question and its answer."""


def offset(sent: float, began: float, done: float, ended: float) -> tuple[float, float]:
    """How far a node's clock is off: offset and uncertainty, both in seconds; a positive offset is ahead.

    Args:
        sent: when the question left, by this clock.
        began: when the node began with it, by the node's.
        done: when the node had the answer, by the node's.
        ended: when the answer was here, by this clock.
    """
    return ((began - sent) + (done - ended)) / 2, max(0.0, (ended - sent) - (done - began)) / 2
