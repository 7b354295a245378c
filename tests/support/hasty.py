"""cellstep, for which an update of packages may take so many seconds only: `python -m tests.support.hasty 60 run nova`.

Half an hour is right for a cloud, and too long for a test. Called in the lab's network namespace, where the command
does not begin again by itself.
"""

import sys

from cellstep.cli.main import main
from tasks import packages

if __name__ == "__main__":
    packages.UPDATE_TIMEOUT_S = float(sys.argv.pop(1))
    main()
