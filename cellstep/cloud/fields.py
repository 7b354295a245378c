"""The values that may stand in a cloud.yaml: paths, commands, shares, counts; what is wrong with one is a line."""

import re
import string
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from cellstep.cloud.allowance import Allowance


def _local(path: Path, info: ValidationInfo) -> Path:
    """Relative to the cloud's folder, `~` expanded."""
    directory = (info.context or {}).get("directory", Path())
    try:
        return Path(directory, path.expanduser())
    except RuntimeError as error:  # ~nobody-of-that-name
        raise ValueError(f"'{path}' has no home folder; write the whole path") from error


def _not_blank(text: str) -> str:
    if not text.strip() or "\0" in text or "\n" in text:
        raise ValueError("is empty or more than one line; write one line")
    return text


def _blank_or_line(text: str) -> str:
    return text if text == "" else _not_blank(text)


def _remote_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"'{text[:80]}' is not a whole path; begin with /")
    return _not_blank(text)


def environment_name(text: str) -> str:
    """The name of an environment variable."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError(f"'{text[:80]}' is not the name of an environment variable; write for instance CELLSTEP_MYSQL")
    return text


def admin_socket(text: str) -> str:
    """`host:port`, or the path of a Unix socket."""
    if text.startswith("/"):
        return text
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 1 <= int(port[:6]) <= 65535:
        raise ValueError(f"'{text[:80]}' is no socket; write 127.0.0.1:9999 or a path such as /run/haproxy.sock")
    return text


def plain_address(text: str) -> str:
    """An address without a password in it."""
    if text and not re.fullmatch(r"[a-z]+://[^\s'\"]+", text):
        raise ValueError(f"'{text[:80]}' is no address; write for instance http://repo.example.org/havana/el6")
    if re.match(r"[a-z]+://[^/]*@", text):
        raise ValueError("has a user or a password in it, which would stand on a command line; give one without")
    return text


def placeholders(*names: str) -> AfterValidator:
    """A command may hold these placeholders and no others; a brace of the shell's own is written twice."""

    def check(text: str) -> str:
        known = ", ".join(f"{{{name}}}" for name in names)
        try:
            used = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
        except ValueError:
            raise ValueError(f"has a single brace; write {known}, and the shell's own braces twice") from None
        for name in used:
            if name not in names:
                raise ValueError(
                    f"has the unknown placeholder {{{name[:40]}}}; write {known}, and the shell's own braces twice"
                )
        return text

    return AfterValidator(check)


def _share(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"'{str(value)[:40]}' is no budget; write a number such as 5, or a share such as 2%")  # noqa: TRY004 - pydantic wants it
    return str(Allowance.parse(value))


LocalPath = Annotated[Path, AfterValidator(_local)]
Line = Annotated[str, AfterValidator(_not_blank)]
Maybe = Annotated[
    str,
    BeforeValidator(lambda value: "" if value is None else value, json_schema_input_type=str | None),
    AfterValidator(_blank_or_line),
]  # "" where the site has none
RemotePath = Annotated[str, AfterValidator(_remote_path)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=86400, allow_inf_nan=False)]
Share = Annotated[str, BeforeValidator(_share, json_schema_input_type=int | str)]
Count = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Mebibytes = Annotated[int, Field(strict=True, ge=0, le=10_000_000)]
Ratio = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
Factor = Annotated[float, Field(strict=False, ge=1, le=1000, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]


class Strict(BaseModel):
    """A mapping with no keys but those it names."""

    model_config = ConfigDict(extra="forbid", frozen=True)
