"""What the stand-ins of all components have in common; each brings its own release, schema and code beside it.

A component's package has `X_lab/release.py`, which says what it is:

    COMPONENT, REPOSITORY   its name, and its row in migrate_version
    NAME, VERSION           grizzly or havana, and upstream's version
    SCHEMAS, HEAD           versions of the schema that its services run on, and that `db sync` goes to
"""
