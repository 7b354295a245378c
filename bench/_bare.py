"""The floor: a login and one command on each host by paramiko alone, in threads; what is printed is thrown away.

python bench/_bare.py PORT USER KEY KNOWN_HOSTS WORKERS < addresses
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import paramiko

COMMAND = "echo @boot_id"


def main() -> int:
    """Ask all addresses; 1 where one did not answer."""
    port, user, path, known, workers = sys.argv[1:6]
    key = paramiko.Ed25519Key.from_private_key_file(path)
    keys = paramiko.HostKeys(known)

    def ask(address: str) -> int:
        transport = paramiko.Transport((address, int(port)))
        try:
            expected = keys[f"[{address}]:{port}"]["ssh-ed25519"]
            transport.connect(hostkey=expected, username=user, pkey=key)
            channel = transport.open_session()
            channel.exec_command(COMMAND)
            data = b""
            while chunk := channel.recv(65536):
                data += chunk
            return len(data) if channel.recv_exit_status() == 0 else 0
        finally:
            transport.close()

    addresses = sys.stdin.read().split()
    with ThreadPoolExecutor(int(workers)) as pool:
        sizes = list(pool.map(ask, addresses))
    return int(not all(sizes))


if __name__ == "__main__":
    sys.exit(main())
