"""Keystone's database: EC2 keys that two releases keep in two tables, and expired tokens."""
