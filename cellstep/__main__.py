"""`python -m cellstep` is the command `cellstep`."""

from cellstep.cli.main import main

main()
