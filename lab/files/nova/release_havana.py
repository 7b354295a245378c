"""What this package is: nova 2013.2.1, Havana."""

NAME = "havana"
VERSION = "2013.2.1"
SCHEMAS = (216,)
HEAD = 216
PER_USER_QUOTAS = True
