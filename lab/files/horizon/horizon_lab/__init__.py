"""The dashboard's stand-in: pages of Horizon's form, with guests from nova's API and sessions in memcached."""
