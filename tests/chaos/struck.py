"""cellstep on a lab, struck at one of its own moves: `python -m tests.chaos.struck STRIKE run all --yes`.

STRIKE is a `Strike` as JSON. Called in the lab's network namespace, where the command does not begin again by itself.
"""

import json
import sys
from pathlib import Path
from typing import Any

from cellstep.cli.main import main
from plugins.connections.ssh import Ssh
from tests.chaos.strikes import Strike


def watch_commands(strike: Strike) -> None:
    """Tell the strike of each command before it is sent to a node, and after."""
    run, start = Ssh.run, Ssh._start

    def counted(ssh: Ssh, command: str, **options: Any) -> Any:
        strike.command(ssh.settings.where, command)
        return run(ssh, command, **options)

    def started(ssh: Ssh, *rest: Any) -> None:
        start(ssh, *rest)
        strike.sent()

    Ssh.run = counted  # type: ignore[method-assign, assignment] # the test's knife
    Ssh._start = started  # type: ignore[method-assign, assignment] # the same


if __name__ == "__main__":
    struck = Strike(**json.loads(sys.argv.pop(1)))
    watch_commands(struck)
    struck.install(Path())
    main()
