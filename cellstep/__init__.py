"""The cellstep command: clouds, releases, the engine and the runbooks."""

from importlib.metadata import version

__version__ = version("cellstep")
