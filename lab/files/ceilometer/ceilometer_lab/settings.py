"""Where the database's address stands; Grizzly's is called otherwise than that of the other components."""

KEYS = {
    "grizzly": (("DEFAULT", "database_connection"),),
    "havana": (("database", "connection"), ("DEFAULT", "database_connection")),
}
QUEUE = "metering"
EVERY_S = 5
