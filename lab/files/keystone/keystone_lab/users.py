"""Who a user is: the directory knows the password, keystone's own database the projects and roles."""

import ldap3

from standin import http

WAIT_S = 5


class Directory:
    """The directory of keystone.conf, asked anew each time."""

    def __init__(self, config):
        self._get = lambda key: config.get(key, "", section="ldap")

    def authenticate(self, name, password):
        """Whether it is the user's password; a user without one does not exist."""
        if not password or any(letter in name for letter in ',+"\\<>;='):
            return False
        user = f"{self._get('user_id_attribute')}={name},{self._get('user_tree_dn')}"
        server = ldap3.Server(self._get("url"), connect_timeout=WAIT_S)
        connection = ldap3.Connection(server, user, password, receive_timeout=WAIT_S)
        try:
            return connection.bind()
        except ldap3.core.exceptions.LDAPException as error:
            raise http.Problem(500, f"An unexpected error prevented the server from fulfilling your request. {error}")
        finally:
            connection.unbind()
