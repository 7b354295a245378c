"""cellstep, ended by SIGKILL between two of its own moves, where nobody outside would be quick enough.

`python -m tests.support.doomed TITLE run nova --yes` dies when the holds of the step TITLE are in the journal, and none
is on a node yet. Called in the lab's network namespace, where the command does not begin again by itself.
"""

import os
import signal
import sys
from typing import Any

from cellstep.cli.main import main
from cellstep.engine.journal import Journal


def doom(doomed: str) -> None:
    """Have this process killed once the holds of that step are written."""
    place_holds = Journal.place_holds

    def wrapped(journal: Journal, run: str, stage: str, title: str, *rest: Any) -> dict[str, dict[str, Any]]:
        found = place_holds(journal, run, stage, title, *rest)
        if title == doomed:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    Journal.place_holds = wrapped  # type: ignore[method-assign, assignment] # the test's knife


if __name__ == "__main__":
    doom(sys.argv.pop(1))
    main()
