"""A cloud: its folder, its configuration and its nodes."""
