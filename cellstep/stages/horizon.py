"""Horizon: on a new machine beside the old one, tested there; users are brought to it, and back where it is worse."""

from cellstep.cloud.load import Cloud
from cellstep.engine.steps import Runbook, gate, hold, lift, save, settle, step
from cellstep.stages import gates
from cellstep.stages.dashboards import Dashboard
from tasks import browser, customisations, dashboard, dashboard_load, evidence, packages, puppet, switching, webserver
from tasks.repositories import STAGE_REPOSITORY
from tasks.restarts import RESTARTS
from tasks.switching import SWITCH

SWITCHED = "Switch the alias and Apache's virtual host to the new machine"
NO_RESTARTS = "dashboard.restarts is not in cloud.yaml"

# A runbook is read as a list: a step is one line, and wraps as prose does.
# fmt: off


def runbook(cloud: Cloud) -> Runbook:
    """The steps of the stage for one cloud."""
    its = Dashboard(cloud)
    site, ask, old, new = its.site, evidence.gather, its.old, its.new
    return Runbook("horizon", (
        save("Save which machine users come to", switching.read, on=its.switcher, per_node=its.to_switch,
             judge=its.save_serving, section="The old machine, as it is"),
        gate("Check that all that is customised on the old machine is listed", customisations.save, on=old,
             per_node=its.to_save, judge=its.all_listed),
        save("Measure the old dashboard under load, from outside", dashboard_load.press, on=its.watcher,
             per_node=its.to_press, judge=its.save_before),
        hold("Disable Puppet automatic software updating", puppet.UPDATES, on=new, section="The new machine",
             **site.updates),
        hold("Stop Puppet running", puppet.AGENT, on=new, **site.puppet),
        hold(f"Place the {site.target} repository on the new machine", STAGE_REPOSITORY, on=new, **its.repository),
        step("Install the dashboard on the new machine", packages.install, on=new, per_node=site.packages),
        step("Repeat the customisations", customisations.reapply, on=new, per_node=its.to_reapply),
        step("Start the web server on what is installed", webserver.refresh, on=new, per_node=its.to_serve),
        gate("Check the RPMs and the web server", ask, on=new, per_node=site.asking("rpms", "services"),
             judge=gates.upgraded_and_up),
        gate("Test the new dashboard there: log in, list, stop and start a guest", dashboard.test, on=new,
             per_node=its.to_test, judge=its.tested),
        gate("Test it in a browser", browser.test, on=new, per_node=its.to_browse, judge=its.browsed),
        hold("Restart the web server gracefully, regularly, for some days", RESTARTS, on=its.restarted,
             when_empty=NO_RESTARTS, section="The switch", **its.restarts),
        hold(SWITCHED, SWITCH, on=its.switcher, **its.switch),
        gate("Check that the new dashboard is not worse under load than the old one was", dashboard_load.press,
             on=its.watcher, per_node=its.to_press, judge=its.not_worse, on_trial=SWITCHED),
        settle("Let users stay with the new machine", SWITCH, on=its.switcher, **its.switch),
        settle("Leave the regular restarts to their own end", RESTARTS, on=its.restarted, when_empty=NO_RESTARTS,
               **its.restarts),
        lift(f"Take the {site.target} repository away again", STAGE_REPOSITORY, on=new, **its.repository),
        lift("Enable Puppet", puppet.AGENT, on=new, **site.puppet),
        lift("Lift the hold on Puppet automatic software updating", puppet.UPDATES, on=new, **site.updates),
    ), may_miss=lambda _node: False, facts=site.facts)
