"""Notes each transaction that changes packages: a line when it begins, another when it is done.

STAMP begun|done COMMAND NUMBER PACKAGE...; a transaction that was cut off or failed has no `done`.
"""

import time

import dnf

LOG = "/srv/lab/transactions"


class Transactions(dnf.Plugin):
    name = "transactions"

    def __init__(self, base, cli):
        super().__init__(base, cli)
        self.cli = cli

    def pre_transaction(self):
        self._note("begun")

    def transaction(self):
        self._note("done")

    def _note(self, state):
        command = getattr(getattr(self.cli, "command", None), "opts", None)
        packages = sorted(map(str, self.base.transaction.install_set | self.base.transaction.remove_set))
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with open(LOG, "a", encoding="utf-8") as file:
            print(stamp, state, getattr(command, "command", "-"), len(packages), *packages, file=file)
