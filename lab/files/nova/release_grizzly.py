"""What this package is: nova 2013.1.4, Grizzly."""

NAME = "grizzly"
VERSION = "2013.1.4"
SCHEMAS = (161, 162)  # 162 is a slot for a local migration
HEAD = 161
PER_USER_QUOTAS = False
