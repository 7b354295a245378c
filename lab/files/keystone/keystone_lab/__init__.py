"""A stand-in for Keystone: tokens in its database, users in a directory, the catalogue, EC2 keys."""
