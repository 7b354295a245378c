"""The cellstep command: clouds, releases, the engine and the runbooks."""
