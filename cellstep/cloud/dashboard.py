"""What stands in a cloud.yaml about the dashboard: a new machine beside the old one, and the switch between them."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cellstep.cloud.fields import Factor, Flag, Line, LocalPath, Maybe, RemotePath, Seconds, Strict, plain_address
from plugins.inventory.model import Word

Address = Annotated[Line, AfterValidator(plain_address)]


class Customisation(Strict):
    """One file of the dashboard that the site has changed or added, and how the new machine gets it."""

    path: RemotePath = Field(description="the file, on the old machine and on the new one")
    how: Literal["copy", "replace", "patch", "command", "leave"] = Field(
        description="copy: as it is, where the release's own file is the same as before; replace: even where not;"
        " patch: by a diff; command: by the site's command; leave: not repeated"
    )
    what: Line = Field(description="what it is for, in words")
    patch: LocalPath | None = Field(default=None, description="with how: patch, the diff, for `patch -p1 -d /`")
    command: Maybe = Field(default="", description="with how: command, what is run on the new machine")
    done: Maybe = Field(default="", description="with how: command, one that ends with 0 when it is done already")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.how == "patch") != (self.patch is not None):
            raise ValueError("needs `patch` with `how: patch`, and with no other")
        if (self.how == "command") != bool(self.command) or bool(self.command) != bool(self.done):
            raise ValueError("needs `command` and `done` with `how: command`, and with no other")
        return self


class DashboardSwitch(Strict):
    """The site's commands that bring users to another dashboard: an alias, or Apache's virtual host."""

    on: Word = Field(description="the node to run them on")
    command: Line = Field(description="brings users to the new machine")
    back: Line = Field(description="brings them to the old one again")
    state: Line = Field(description="prints the name of the node that users come to")


class DashboardLoad(Strict):
    """The load under which both are compared: whole log-ins, each with a list of guests and a log-out."""

    users: Annotated[int, Field(strict=True, ge=1, le=200)] = Field(default=5, description="log-ins at once")
    rate_per_s: Annotated[float, Field(strict=False, gt=0, le=100)] = Field(
        default=1, description="log-ins begun in a second, all in all"
    )
    slower: Factor = Field(default=2, description="so many times the 95th percentile of before is worse")
    slack_ms: Annotated[float, Field(strict=False, ge=0, le=60_000)] = Field(
        default=250, description="but not where it is fewer milliseconds more than these"
    )
    failed: Annotated[float, Field(strict=False, ge=0, le=1)] = Field(
        default=0.01, description="share of requests, or of log-ins, that may fail beyond that of before"
    )


class DashboardRestarts(Strict):
    """A regular graceful restart of the new machine's web server, for some days."""

    every_min: Annotated[int, Field(strict=True, ge=1, le=59)] = Field(description="minutes between two restarts")
    days: Annotated[int, Field(strict=True, ge=1, le=90)] = Field(description="after so many days it removes itself")
    command: Line = Field(default="service httpd graceful", description="what restarts it")
    settings: RemotePath = Field(
        default="/etc/openstack-dashboard/local_settings",
        description="the dashboard's settings: sessions must be in memcached",
    )


class DashboardConfig(Strict):
    """The dashboard: a new machine beside the old one."""

    old: Word = Field(description="the node with the old release")
    new: Word = Field(description="the node that gets the new one")
    url: Address = Field(description="the address that users have, as watch_from reaches it")
    local: Address = Field(default="http://localhost/dashboard", description="the new machine's own address, on itself")
    username: Line = Field(description="a user of the dashboard, for the tests")
    password_file: LocalPath = Field(description="file with that user's password, readable by its owner alone")
    guest: Line = Field(description="name of a guest of that user's that may be stopped and started")
    customisations: list[Customisation] = Field(default_factory=list, description="what the site has changed")
    switch: DashboardSwitch = Field(description="the change of the alias or the virtual host")
    watch_from: Word = Field(description="a node with curl that users could be at")
    watch_s: Seconds = Field(default=300, description="seconds of load, before the switch and after it")
    load: DashboardLoad = Field(default_factory=DashboardLoad, description="the load, and what counts as worse")
    restarts: DashboardRestarts | None = Field(default=None, description="the regular restart; none if left out")
    browser: Flag = Field(default=False, description="test in headless Chromium on this machine, too")
    browser_url: Annotated[Maybe, AfterValidator(plain_address)] = Field(
        default="", description="the new machine's address as this machine reaches it"
    )

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.old == self.new:
            raise ValueError("has one node as old and new; the new dashboard stands on a machine of its own")
        if self.browser and not self.browser_url:
            raise ValueError("needs browser_url with `browser: true`")
        return self
