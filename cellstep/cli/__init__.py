"""The command line: one module a command group; arguments, output and exit codes only."""
