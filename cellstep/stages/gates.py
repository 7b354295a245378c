"""What the gates judge: each takes the nodes' answers and returns findings; blocking ones stop the run."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cellstep import continuity, kept
from cellstep.baseline import Baseline
from cellstep.comparison import tables_of
from cellstep.engine.context import Context
from cellstep.engine.steps import Finding
from cellstep.engine.store import now, seconds_between
from cellstep.releases.model import Component
from cellstep.verification import CLIENTS, Answers, component_of, guest_rows, system_rows
from cellstep.wayback import BACKED_OUT, GOING_BACK, Upgrade
from reports.reasons import UNEXPLAINED
from tasks import platforms
from tasks.checkout import Shown
from tasks.evidence import Evidence
from tasks.holds import Noted

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 5


def save_volumes(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Keep the volume list for the comparison afterwards, and the quota usage for the way back."""
    _keep(context, "quotas", [evidence.quotas for evidence in results.values() if evidence.quotas is not None])
    _keep_windows(context, results)
    rows = [row for evidence in results.values() for row in evidence.volumes or ()]
    return _keep(context, "volumes", rows)


def save_packages(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Keep the versions of the release's packages, to prove later that nothing was upgraded too early.

    And all of the nodes' packages and kernels, for the way back.
    """
    names = {name for component in context.cloud.release.components.values() for name in component.packages}
    rows = [
        {"host": host, "package": package, "installed": evrs[-1]}
        for host, evidence in results.items()
        if evidence.facts
        for package, evrs in evidence.facts.packages.items()
        if package in names
    ]
    _keep(context, "systems", system_rows(results), results)
    return [*_keep(context, "packages", rows, results), *_left_behind(context, rows)]


def _left_behind(context: Context, rows: Sequence[Mapping[str, str]]) -> list[Finding]:
    """Before Nova, where all nodes get the repository for good: what Puppet would then update by itself, in service."""
    if context.stage != "nova":
        return []
    others = {
        package: (whose, fact.evr)
        for whose, component in context.cloud.release.components.items()
        if whose not in {context.stage, CLIENTS}
        for package, fact in component.packages.items()
    }
    platform_of = {node.name: platforms.named(node.platform) for node in context.cloud.nodes}
    behind: dict[str, set[str]] = {}
    for row in rows:
        whose, evr = others.get(row["package"], ("", ""))
        if whose and not platform_of[row["host"]].packages.matches(row["installed"], evr):
            behind.setdefault(whose, set()).add(row["host"])
    return [
        Finding(
            f"{whose} is not upgraded yet on {context.cloud.fold(hosts)}: Puppet would update it after this stage;"
            f" `cellstep run {whose}` first",
            blocking=True,
        )
        for whose, hosts in behind.items()
    ]


def resolved(context: Context, results: Mapping[str, Noted]) -> list[Finding]:
    """No package of another component may come with the update: its service would restart on new code."""
    stage = component_of(context.stage)
    strange: dict[tuple[str, str], set[str]] = {}
    said: dict[str, set[str]] = {}
    for host, noted in results.items():
        said.setdefault(noted.words, set()).add(host)
        for package, whose in noted.data.items():
            if whose not in {stage, CLIENTS, ""}:
                strange.setdefault((package, whose), set()).add(host)
    return [
        *(Finding(f"{context.cloud.fold(hosts)}: {words}", False, note=True) for words, hosts in said.items()),
        *(
            Finding(f"{context.cloud.fold(hosts)}: the update brings {package} of {whose}, too", blocking=True)
            for (package, whose), hosts in strange.items()
        ),
    ]


def save_images(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Keep the list of images for the comparison afterwards."""
    _keep_windows(context, results)
    return _keep(context, "images", [row for evidence in results.values() for row in evidence.images or ()])


def save_guests(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Keep the lists of running guests and of instances for the comparison afterwards."""
    _keep_windows(context, results)
    instances = continuity.instance_rows(results)
    if instances:
        _keep(context, "instances", instances, [row["host"] for row in instances])
    return _keep(context, "guests", guest_rows(context.nodes, _answers(results)), results)


def save_instances(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Keep the lists of instances: whose samples must arrive afterwards."""
    rows = continuity.instance_rows(results)
    return _keep(context, "instances", rows, [row["host"] for row in rows])


def note_disabled(context: Context, results: Mapping[str, Mapping[str, bool]]) -> list[Finding]:
    """Keep how quarantined nodes' nova-compute stands, so that one that was disabled before is never enabled."""
    context.journal.note_disabled({host: was for hosts in results.values() for host, was in hosts.items()})
    return []


def _keep_windows(context: Context, results: Mapping[str, Evidence]) -> None:
    """Keep since when differences count: since the run began, because its nodes are not all asked at once."""
    began = next(run.started_at for run in context.journal.runs() if run.id == context.run)
    rows = continuity.window_rows(results, seconds_between(began, now()))
    if rows:
        _keep(context, "windows", rows, [row["host"] for row in rows])


def _keep(context: Context, name: str, rows: list[Any], nodes: Collection[str] | None = None) -> list[Finding]:
    if not context.options.dry_run:
        kept.save(context.output, name, rows, nodes)
    return []


def upgraded(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Controllers must have the release's exact packages, databases its schema version."""
    return _upgraded(context, results, {node.name for node in context.nodes if node.tier in {"top", "cell"}})


def _upgraded(context: Context, results: Mapping[str, Evidence], nodes: Collection[str]) -> list[Finding]:
    rpms = _bad(context, results, "rpms", only=nodes)
    found = _findings(
        rpms, "host", lambda row: f"{row['package']} is {row['status']}: {row['installed'] or 'not there'}", True
    )
    component = context.cloud.release.components[component_of(context.stage)]
    heads = [component.head(schema) for schema in component.databases]
    for name, evidence in results.items():
        for database, head in evidence.heads.items():
            if head not in heads:
                text = f"{name}: database {database} is at schema version {head}, not {' or '.join(map(str, heads))}"
                found.append(Finding(text, blocking=True))
    return found


def upgraded_and_up(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Both: the exact packages and schema versions, and every service running and reporting."""
    present = {node.name for node in context.present()}
    return [*_upgraded(context, results, present), *services_up(context, results)]


def clients_upgraded(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Every client machine that is there must have the release's exact clients."""
    return _upgraded(context, results, {node.name for node in context.present()})


def services_up(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Every service must run and report to its cell's database; a node that is left out is only reported."""
    bad = _bad(context, results, "services", only={node.name for node in context.present()})
    return _findings(bad, "host", lambda row: f"{row['service']} is {row['status']}", True)


def volumes_kept(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """No volume may be lost, or be another than before, without a reason."""
    if _baseline(context).volumes is None:
        return _nothing_saved(context, "volumes")
    bad = _unexplained(_bad(context, results, "volumes"))
    return _findings(bad, "id", lambda row: f"volume “{row['name']}” {_what_differs(row)}", True)


def images_kept(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """No image may be missing, or be another than before, without a reason."""
    if _baseline(context).images is None:
        return _nothing_saved(context, "images")
    bad = _unexplained(_bad(context, results, "images"))
    return _findings(bad, "id", lambda row: f"image “{row['name']}” {_what_differs(row)}", True)


def nothing_shown_too_much(context: Context, results: Mapping[str, Noted]) -> list[Finding]:
    """An ordinary user's list of images must have none that is another project's and not public."""
    del context
    found = []
    for host, noted in results.items():
        shown: Shown = noted.data
        found += [
            Finding(
                f"{host}: `{shown.command}` shows an ordinary user of project {shown.project} {text}", blocking=True
            )
            for text in shown.wrong[:SHOWN]
        ]
        if len(shown.wrong) > SHOWN:
            found.append(Finding(f"{host}: and {len(shown.wrong) - SHOWN} more", blocking=True))
        if shown.may_see and not shown.listed:
            text = f"shows an ordinary user none of the {shown.may_see} images that project {shown.project} may see"
            found.append(Finding(f"{host}: `{shown.command}` {text}: what it hides cannot be told", blocking=True))
    return found


def policies_found(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """A rule that is not there is added by the next step; what that cannot mend blocks."""
    why = {(fact.file, fact.rule): fact.why for fact in _component(context).policies}
    missing = "; the next step adds it: give it to Puppet, too, or whatever else writes the file"
    rows: list[dict[Any, Any]] = _bad(context, results, "policies").to_dict("records")
    return [
        Finding(
            f"{row['host']}: {row['file']}: {row['explanation']}"
            + (f" ({why[row['file'], row['rule']]}){missing}" if row["status"] == "missing" else ""),
            blocking=row["status"] != "missing",
        )
        for row in rows
    ]


def policies_right(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Every policy file must have the rules that the release needs."""
    bad = _bad(context, results, "policies")
    return _findings(bad, "host", lambda row: f"{row['file']}: {row['explanation'] or row['status']}", True)


def _component(context: Context) -> Component:
    return context.cloud.release.components[component_of(context.stage)]


def guests_kept(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """No guest may be lost, restarted or another than before without a reason, on a node that answers."""
    return _guests_kept(context, results, set())


def _guests_kept(context: Context, results: Mapping[str, Evidence], harmless: Collection[str]) -> list[Finding]:
    if _baseline(context).guests is None:
        return _nothing_saved(context, "guests")
    present = {"", *(node.name for node in context.present())}  # "": in no list of any node
    bad = _unexplained(_bad(context, results, "guests", only=present))
    bad = bad[~bad["status"].isin(list(harmless))]
    return _findings(bad, "host", lambda row: f"guest {row['uuid']} {_what_differs(row)}", True)


def _unexplained(frame: "pd.DataFrame") -> "pd.DataFrame":
    return frame[frame["explained_by"] == UNEXPLAINED]


def _what_differs(row: Mapping[Any, Any]) -> str:
    words = {"changed": "is not as before", "appeared": "is not known from before"}
    return f"{words.get(row['status'], 'is ' + str(row['status']))}: {row['explanation']}"


def quotas_counted(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """The quota usage should be what the instances say; reported, not blocking."""
    bad = _bad(context, results, "quotas")
    if bad.empty:
        return []
    counts = bad["status"].value_counts()
    text = f"the quota usage is not what the instances say: {', '.join(f'{n} {s}' for s, n in counts.items())}"
    if "missing" in counts:
        text += "; limits are not enforced while rows are missing"
    return [Finding(f"{text}; `cellstep quota repair nova` shows the SQL, `--apply` writes it", blocking=False)]


# Back-out


def way_back_is_open(context: Context, _results: Mapping[str, Evidence]) -> list[Finding]:
    """There must be an upgrade to go back from, its point of no return not crossed, and its dumps at hand."""
    upgrade = _upgrade(context)
    why = upgrade.closed() if upgrade else f"there is no run of {component_of(context.stage)} to go back from"
    return [Finding(why, blocking=True)] if why else []


def _upgrade(context: Context) -> Upgrade | None:
    from cellstep.stages.nova import runbook  # noqa: PLC0415 - the runbook is made of these gates

    return Upgrade.find(context.cloud, context.journal, runbook(context.cloud))


def brought_back(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Every node must have exactly the packages and the kernel of before, every restored database its version."""
    rpms = _bad(context, results, "rpms", only={node.name for node in context.present()}, stage=context.stage)
    found = _findings(
        rpms, "host", lambda row: f"{row['package']} is {row['status']}: {row['installed'] or 'not there'}", True
    )
    for row in _baseline(context).systems or ():
        for host in row["hosts"]:
            facts = results[host].facts if host in results else None
            if facts and facts.kernel != row["kernel"]:
                found.append(Finding(f"{host}: runs kernel {facts.kernel}, not {row['kernel']} as before", True))
    schema = context.cloud.release.components[component_of(context.stage)].databases[0]
    upgrade = _upgrade(context)
    touched = upgrade.synced() if upgrade else set()
    for node in context.witnesses():
        for database, head in (results[node.name].heads if node.name in results else {}).items():
            if node.cell in touched and head not in schema.start:
                start = " or ".join(map(str, schema.start))
                found.append(Finding(f"{node.name}: database {database} is at version {head}, not at {start}", True))
    return found


def guests_kept_and_no_more(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """No guest may be lost or restarted; one that came meanwhile is in no restored database, and is reported."""
    found = _guests_kept(context, results, {"appeared"})
    before = {row["uuid"] for row in _baseline(context).guests or ()}
    for row in guest_rows(context.nodes, _answers(results)):
        if before and row["uuid"] not in before:
            text = f"{row['host']}: guest {row['uuid']} came during the upgrade, and no database knows it: end it there"
            found.append(Finding(text, blocking=False))
    return found


def quotas_as_before(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """The quota usage should be what the instances say, or as it was before; reported, not blocking."""
    bad = _bad(context, results, "quotas", stage=context.stage)
    counts = ", ".join(f"{n} {status}" for status, n in bad["status"].value_counts().items())
    return [Finding(f"the quota usage is neither right nor as before: {counts}", blocking=False)] if counts else []


def close_upgrade(context: Context, results: Mapping[str, Evidence]) -> list[Finding]:
    """Every service must still be well; then the upgrade's run counts as backed out, and `resume` leaves it alone."""
    found = services_up(context, results)
    upgrade = _upgrade(context)
    blocked = context.options.dry_run or any(finding.blocking for finding in found)
    if upgrade and upgrade.last.state == GOING_BACK and not blocked:
        # Nodes that missed the back-out too are to catch up with that, and no longer with the upgrade.
        context.journal.hand_over(context.run, component_of(context.stage), context.stage, context.left_out)
        upgrade.leave(BACKED_OUT, f"backed out by run {context.run}")
    return found


def _nothing_saved(context: Context, what: str) -> list[Finding]:
    """A dry run saves no list, and a run on some nodes only theirs, so they have nothing to say here."""
    if context.options.dry_run or context.options.limit:
        return []
    return [Finding(f"no list of {what} was saved before: whether one is lost cannot be told", blocking=False)]


def _baseline(context: Context) -> Baseline:
    return Baseline.find(context.cloud, context.journal, component_of(context.stage), context.output)


def _answers(results: Mapping[str, Evidence]) -> Answers:
    return Answers(evidence=dict(results))


def _bad(
    context: Context,
    results: Mapping[str, Evidence],
    table: str,
    only: Collection[str] | None = None,
    stage: str = "",
) -> "pd.DataFrame":
    """The rows of a table that are not compliant, of these hosts only if named."""
    from reports.tables import findings  # noqa: PLC0415 - brings pandas, 0.6 s

    nodes = [node for node in context.nodes if node.name in results]
    baseline = _baseline(context)
    stage = stage or component_of(context.stage)
    frame = tables_of(context.cloud, stage, nodes, _answers(results), baseline, [table])[table]
    if table == "quotas" or only is None:
        return findings(table, frame)
    return findings(table, frame[frame["host"].isin(list(only))])


def _findings(frame: "pd.DataFrame", where: str, words: Any, blocking: bool) -> list[Finding]:
    rows: list[dict[Any, Any]] = frame.to_dict("records")
    found = [Finding(f"{row[where]}: {words(row)}" if row[where] else words(row), blocking) for row in rows]
    if len(found) <= SHOWN:
        return found
    return [*found[:SHOWN], Finding(f"and {len(found) - SHOWN} more", blocking)]
