"""What cloud.yaml's `dashboard` gives to the tasks of the stage horizon, and what its gates judge."""

from collections.abc import Mapping, Sequence
from typing import Any

from cellstep.cloud.dashboard import DashboardConfig
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.engine.context import Context
from cellstep.engine.steps import Finding, Nodes
from cellstep.errors import ConfigurationError
from cellstep.stages import choices
from cellstep.stages.arguments import MEASURED, Site
from tasks import customisations, dashboard_load
from tasks.customisations import Wish
from tasks.holds import Noted
from tasks.switching import SWITCH

STATE = "dashboard-serving"
"""Of the journal's records: which machine users came to when the run began."""
BEFORE, AFTER = "before", "after"


class Dashboard:
    """The stage's arguments and gates.

    Args:
        cloud: the cloud.

    Raises:
        ConfigurationError: cloud.yaml has no dashboard.
    """

    def __init__(self, cloud: Cloud) -> None:
        if cloud.config.dashboard is None:
            words = "cloud.yaml: dashboard is not there; the stage horizon needs old, new, url, switch and more of it"
            raise ConfigurationError([words])
        self.cloud, self.site = cloud, Site(cloud, "horizon")
        self.config: DashboardConfig = cloud.config.dashboard
        self.packages = tuple(cloud.release.components["horizon"].packages)

    # Where

    @property
    def old(self) -> Nodes:
        """The old machine."""
        return choices.named(self.config.old)

    @property
    def new(self) -> Nodes:
        """The new one."""
        return choices.named(self.config.new)

    @property
    def watcher(self) -> Nodes:
        """The node from which load comes."""
        return choices.named(self.config.watch_from)

    @property
    def switcher(self) -> Nodes:
        """The node with the site's commands."""
        return choices.named(self.config.switch.on)

    # Arguments

    @property
    def repository(self) -> dict[str, Any]:
        """The release's repository, all of it: the new machine has nothing yet of what the packages need."""
        return {**self.site.stage_repository, "packages": ("*",)}

    @property
    def switch(self) -> dict[str, Any]:
        """The site's commands."""
        its = self.config.switch
        machines = {"old": self.config.old, "new": self.config.new}
        return {**machines, "command": its.command, "back": its.back, "state": its.state}

    @property
    def restarts(self) -> dict[str, Any]:
        """The regular restart; only asked for where there is one."""
        its = self.config.restarts
        return its.model_dump() if its else {}

    @property
    def restarted(self) -> Nodes:
        """The new machine, where the site wants regular restarts."""
        return self.new if self.config.restarts else Nodes("new dashboard", lambda _nodes: [])

    @property
    def _wishes(self) -> tuple[Wish, ...]:
        return tuple(Wish(**each.model_dump()) for each in self.config.customisations)

    def to_switch(self, _context: Context, _node: Node) -> Mapping[str, Any]:
        """The same as `switch`, for a step that computes its arguments."""
        return self.switch

    def to_save(self, _context: Context, _node: Node) -> Mapping[str, Any]:
        """The packages and the site's list."""
        return {"packages": self.packages, "wishes": self._wishes}

    def to_reapply(self, _context: Context, _node: Node) -> Mapping[str, Any]:
        """The same, and where it comes from."""
        return {"old": self.config.old, "packages": self.packages, "wishes": self._wishes}

    def to_serve(self, context: Context, _node: Node) -> Mapping[str, Any]:
        """The web server, what it serves, and whether users are on it already."""
        paths = tuple(wish.path for wish in self._wishes if wish.how != "leave")
        return {
            "services": self.site.services,
            "packages": self.packages,
            "paths": paths,
            "in_use": self._serving(context) == self.config.new,
        }

    def _user(self) -> dict[str, Any]:
        return {"username": self.config.username, "password": self.cloud.dashboard_password}

    def to_test(self, _context: Context, _node: Node) -> Mapping[str, Any]:
        """The test over HTTP, on the new machine."""
        config = self.config
        timeout_s = self.cloud.config.settle_s
        return {"base": config.local, **self._user(), "guest": config.guest, "timeout_s": timeout_s}

    def to_browse(self, _context: Context, _node: Node) -> Mapping[str, Any]:
        """The test in a browser."""
        return {"base": self.config.browser_url, **self._user(), "wanted": self.config.browser}

    def to_press(self, context: Context, _node: Node) -> Mapping[str, Any]:
        """The load from outside; none where users came to the new machine before this run."""
        config, load = self.config, self.config.load
        needless = f"users came to {config.new} before this run" if self._serving(context) == config.new else ""
        pressure = {"users": load.users, "rate_per_s": load.rate_per_s, "seconds": config.watch_s}
        return {"base": config.url, **self._user(), **pressure, "needless": needless}

    def _serving(self, context: Context) -> str:
        """Which machine users came to when the run began, or when it last placed the switch."""
        prior = context.journal.open_holds(SWITCH.name).get(self.config.switch.on)
        if prior:
            return str(prior["serving"])
        record = context.journal.records(STATE, "horizon", context.run).get(self.config.switch.on)
        return str(record.data["serving"]) if record else self.config.old

    # What is judged

    def save_serving(self, context: Context, results: Mapping[str, Mapping[str, str]]) -> list[Finding]:
        """Keep which machine users come to."""
        for host, seen in results.items():
            context.journal.keep_record(STATE, "horizon", host, seen, context.run)
        return []

    def all_listed(self, _context: Context, results: Mapping[str, Noted]) -> list[Finding]:
        """Whatever the site has changed must be in its list."""
        words = [text for noted in results.values() for text in customisations.faults(noted.data, self._wishes)]
        return [Finding(text, blocking=True) for text in words]

    def save_before(self, context: Context, results: Mapping[str, Noted]) -> list[Finding]:
        """Keep the old dashboard's figures; one that does not serve well is told of."""
        found = []
        for noted in results.values():
            if noted.data is not None:
                self._keep(context, BEFORE, self.config.old, noted.data, [])
                if noted.data["errors"] or noted.data["failed_logins"]:
                    found.append(
                        Finding(f"{self.config.old}, before anything is changed: {noted.words}", blocking=False)
                    )
        return found

    def tested(self, context: Context, results: Mapping[str, Noted]) -> list[Finding]:
        """All that was tried on the new machine must go well."""
        found = []
        for host, noted in results.items():
            if not noted.data and not context.options.dry_run:
                found.append(Finding(f"{host}: nothing was tried", blocking=True))
            found += [Finding(f"{host}: {each['said']}", blocking=True) for each in noted.data if not each["well"]]
        return found

    def browsed(self, _context: Context, results: Mapping[str, Noted]) -> list[Finding]:
        """What a browser finds amiss blocks; that there was none is reported where one was asked for."""
        found = []
        for host, noted in results.items():
            if noted.data is None and self.config.browser:
                found.append(Finding(f"{host}: {noted.words}", blocking=False))
            found += [Finding(f"{host}, in a browser: {text}", blocking=True) for text in noted.data or ()]
        return found

    def not_worse(self, context: Context, results: Mapping[str, Noted]) -> list[Finding]:
        """The new dashboard must not be worse under load than the old one was."""
        found = []
        record = context.journal.records(MEASURED, "horizon", context.run).get(BEFORE)
        load = self.config.load
        for noted in results.values():
            if noted.data is None:
                continue
            before: Mapping[str, Any] = record.data if record else _NOTHING
            words = dashboard_load.worse(
                before, noted.data, slower=load.slower, slack_ms=load.slack_ms, failed=load.failed
            )
            self._keep(context, AFTER, self.config.new, noted.data, words)
            if words:
                found.append(Finding(f"{self.config.new} is worse than {self.config.old}: {'; '.join(words)}", True))
        return found

    def _keep(
        self, context: Context, side: str, machine: str, figures: Mapping[str, Any], worse: Sequence[str]
    ) -> None:
        data = {**figures, "machine": machine, "address": self.config.url, "worse": list(worse)}
        context.journal.keep_record(MEASURED, "horizon", side, data, context.run)


_NOTHING = {"requests": 0, "errors": 0, "logins": 0, "failed_logins": 0, "p95_ms": None}
"""Of the old dashboard nothing is known."""
