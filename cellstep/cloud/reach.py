"""What stands in cloud.yaml of cells that are reached through workers inside them."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from cellstep.cloud.fields import LocalPath, Seconds
from cellstep.cloud.fields import Strict as _Strict
from plugins.inventory.model import Word


def _endpoint(text: str) -> str:
    """`host:port`; an IPv6 address in brackets."""
    found = re.fullmatch(r"(?:tls://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", text)
    if not found or not 1 <= int(found[2]) <= 65535:
        raise ValueError(f"'{text[:80]}' is no host and port; write for instance ops01.example.org:8786")
    return f"{found[1]}:{found[2]}"


class ReachConfig(_Strict):
    """Cells that only a worker inside them reaches."""

    scheduler: Annotated[str, AfterValidator(_endpoint)] = Field(
        description="host:port of `cellstep scheduler`, as this machine and the workers reach it"
    )
    cells: Annotated[list[Word], Field(min_length=1)] = Field(
        description="the cells whose nodes are reached through a worker; top is one, too"
    )
    ca: LocalPath = Field(description="certificate of the authority that signed all the others")
    certificate: LocalPath = Field(description="this machine's certificate")
    key: LocalPath = Field(description="its private key, mode 600")
    connect_timeout_s: Seconds = Field(default=10, description="seconds to wait for the scheduler")
    lost_after_s: Annotated[float, Field(strict=True, ge=5, le=3600)] = Field(
        default=60, description="a worker that is silent for so many seconds is lost"
    )
