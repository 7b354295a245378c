"""What is done to one host or one database, as Nornir tasks."""
