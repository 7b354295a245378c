"""Connection plugins: SSH on paramiko, MySQL on PyMySQL."""
