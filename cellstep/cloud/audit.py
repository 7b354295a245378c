"""What stands in cloud.yaml of audits: what they mind, whom they tell, and how many are kept."""

from typing import Literal

from pydantic import Field

from cellstep.cloud.fields import Count, Line, LocalPath, Mebibytes, RemotePath, Seconds
from cellstep.cloud.fields import Strict as _Strict


class NotifyConfig(_Strict):
    """Who is told of problems that an audit finds and the one before did not."""

    webhook_file: LocalPath | None = Field(
        default=None, description="file with the webhook's address, one line, mode 600: who knows it may post there"
    )
    form: Literal["json", "slack", "mattermost"] = Field(default="json", description="what the webhook takes")
    mail: list[Line] = Field(default_factory=list, description="addresses for the machine's sendmail")
    sendmail: Line = Field(default="/usr/sbin/sendmail", description="the program")
    timeout_s: Seconds = Field(default=10, description="seconds to wait for the webhook, and for sendmail")


class AuditConfig(_Strict):
    """What audits mind, whom they tell, and how many are kept."""

    clock_s: Seconds = Field(default=2, description="seconds that a node's clock may be off")
    free_mib: dict[RemotePath, Mebibytes] = Field(
        default={"/": 512, "/var": 1024}, description="folder to MiB that must be free"
    )
    keep: Count = Field(default=400, description="audits that are kept to compare with, in state/audits")
    keep_reports: Count = Field(default=90, description="audits whose reports are kept in out/")
    notify: NotifyConfig = Field(default_factory=NotifyConfig, description="who is told of new problems")
    metrics: LocalPath | None = Field(
        default=None, description="file for node_exporter's textfile collector, NAME.prom; none if left out"
    )
