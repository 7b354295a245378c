"""The way to a scheduler of dask.distributed over TLS, where both sides show a certificate of one authority.

dask itself tries again and again until its time is over, and then says that it timed out. `knock` finds out before that
what is wrong, and says it in one line.
"""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugins.connections.errors import Unreachable


@dataclass(frozen=True)
class Way:
    """How a scheduler is reached.

    Attributes:
        scheduler: `host:port`.
        ca: certificate of the authority.
        certificate: ours, for a client and a server in one.
        key: its private key.
        connect_timeout: seconds.
    """

    scheduler: str
    ca: Path
    certificate: Path
    key: Path
    connect_timeout: float = 10.0

    @property
    def address(self) -> str:
        """As dask has it."""
        return f"tls://{self.scheduler}"

    @property
    def host(self) -> str:
        """Without the port."""
        return self.scheduler.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Its TCP port."""
        return int(self.scheduler.rpartition(":")[2])

    def security(self) -> Any:
        """As dask's Security: nothing goes unencrypted, and nobody without a certificate is let in."""
        from distributed import Security  # noqa: PLC0415 - of the extra `reach`

        certificate, key = str(self.certificate), str(self.key)
        return Security(
            require_encryption=True,
            tls_ca_file=str(self.ca),
            tls_client_cert=certificate,
            tls_client_key=key,
            tls_scheduler_cert=certificate,
            tls_scheduler_key=key,
            tls_worker_cert=certificate,
            tls_worker_key=key,
        )


def context(way: Way) -> ssl.SSLContext:
    """Our side of TLS.

    Raises:
        Unreachable: a file cannot be read, or is not what it should be.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # As dask: it is the authority that counts, not the name.
    made.check_hostname = False
    for what, path in (("ca", way.ca), ("certificate", way.certificate), ("key", way.key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise Unreachable(f"reach.{what}: cannot read {path}: {error.strerror}") from error
    try:
        made.load_verify_locations(way.ca)
    except ssl.SSLError as error:
        raise Unreachable(f"reach.ca: {way.ca} is no certificate in PEM") from error
    try:
        made.load_cert_chain(way.certificate, way.key)
    except ssl.SSLError as error:
        raise Unreachable(
            f"reach.certificate: {way.certificate} and {way.key} are no certificate and its own key in PEM"
            f" ({error.reason or error})"
        ) from error
    return made


def knock(way: Way) -> None:
    """See whether the scheduler answers and takes our certificate, as we take its.

    Raises:
        Unreachable: it does not; the text says what to look at, and names no node.
    """
    tls, where, seconds = context(way), f"the scheduler {way.scheduler}", f"{way.connect_timeout:g} s"
    # TLS 1.3 would tell that our certificate is refused with the first answer, and the scheduler waits for us to speak.
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection((way.host, way.port), way.connect_timeout) as raw:
            tls.wrap_socket(raw).close()
    except TimeoutError as error:
        raise Unreachable(f"{where} does not answer within {seconds}") from error
    except ssl.SSLCertVerificationError as error:
        said = error.verify_message
        raise Unreachable(f"{where} shows a certificate that is not of {way.ca.name}: {said}") from error
    except ssl.SSLError as error:
        said = (error.reason or str(error)).lower().replace("_", " ")
        raise Unreachable(f"{where}: no TLS with our certificate {way.certificate.name}: {said}") from error
    except OSError as error:
        raise Unreachable(
            f"{where} is not reached: {(error.strerror or str(error)).lower()}; is it started?"
        ) from error
