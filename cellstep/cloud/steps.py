"""An entry of `steps` in cloud.yaml: a step of the site's own, or what it changes of a stage's own steps."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cellstep.cloud.fields import Line, Maybe, Seconds, Strict
from plugins.inventory.model import Word

PLACES = ("after", "before", "replace", "leave_out")
HOLD_COMMANDS = ("read", "place", "lift")
LIFTS = ("lift_after", "lift_before")


def _function(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", text):
        raise ValueError(f"'{text[:80]}' is no function; write module:function, such as network:sync_network")
    return text


class StepConfig(Strict):
    """A step of the site's own, or what it changes of a stage's own steps."""

    stage: Word = Field(description="the stage, such as nova, or the way back from it, nova-backout")
    after: Line | None = Field(default=None, description="the title of the step that it comes after")
    before: Line | None = Field(default=None, description="the title of the step that it comes before")
    replace: Line | None = Field(default=None, description="the title of the step that it stands in place of")
    leave_out: Line | None = Field(default=None, description="the title of a step that is left out")
    reason: Maybe = Field(default="", description="why; needed with replace and leave_out")
    title: Maybe = Field(default="", description="its title in the plan; with replace the replaced step's by default")
    on: Maybe = Field(default="", description="its nodes, as --limit takes them")
    kind: Literal["do", "hold"] = Field(default="do", description="it does something, or is put back by a later step")
    run: Annotated[str, AfterValidator(_function)] | None = Field(
        default=None,
        description="module:function, a Nornir task or (kind hold) a tasks.holds.Hold, in site/ beside cloud.yaml or "
        "of an installed module",
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="of the function")
    command: Maybe = Field(default="", description="a shell command on each node, in place of run")
    already: Maybe = Field(
        default="", description="command that ends with 0 where it is done (kind hold: in place) already"
    )
    hold: Word | None = Field(default=None, description="kind hold with commands: its name in `cellstep holds`")
    read: Maybe = Field(default="", description="kind hold: command that prints the prior state and changes nothing")
    place: Maybe = Field(default="", description="kind hold: command that places it; gets the prior state on its input")
    lift: Maybe = Field(default="", description="kind hold: command that puts it back; gets the prior state as well")
    lift_after: Line | None = Field(default=None, description="kind hold: it is lifted after the step of this title")
    lift_before: Line | None = Field(default=None, description="kind hold: it is lifted before the step of this title")
    lift_title: Maybe = Field(default="", description="kind hold: the title of the step that lifts it")
    timeout_s: Seconds = Field(default=600, description="seconds that a command may take")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for fault in (self._place_fault(), self._own_fault(), self._kind_fault()):
            if fault:
                raise ValueError(fault)
        return self

    @property
    def title_given(self) -> str:
        """Its title: of its own, or that of the step in whose place it stands."""
        return self.title or self.replace or ""

    @property
    def title_of_lift(self) -> str:
        """The title of the step that lifts it."""
        return self.lift_title or f"Put back: {self.title_given}"

    def _given(self, *names: str) -> list[str]:
        return [name for name in names if name in self.model_fields_set and getattr(self, name) not in (None, "", {})]

    def _place_fault(self) -> str:
        if len(self._given(*PLACES)) != 1:
            return "needs one of after, before, replace and leave_out; write just one"
        if self._given("replace", "leave_out") and not self.reason:
            return f"needs a reason with {self._given('replace', 'leave_out')[0]}; write why"
        return ""

    def _own_fault(self) -> str:
        if self.leave_out is not None:
            more = sorted(self.model_fields_set - {"stage", "leave_out", "reason"})
            return f"has {more[0]}, which means nothing with leave_out; leave it out" if more else ""
        lacking = [name for name, value in (("title", self.title_given), ("on", self.on)) if not value]
        if lacking:
            return f"needs {lacking[0]}; write it"
        if self.arguments and self.run is None:
            return "has arguments, which are for run; leave them out"
        if self.run is not None and (more := self._given("already", "timeout_s")):
            return f"has {more[0]}, which is for commands; the function of run sees to that itself"
        return ""

    def _kind_fault(self) -> str:
        if self.leave_out is not None:
            return ""
        return self._do_fault() if self.kind == "do" else self._hold_fault()

    def _do_fault(self) -> str:
        if len(self._given("run", "command")) != 1:
            return "needs run or command; write one of them"
        if more := self._given(*HOLD_COMMANDS, "hold", *LIFTS, "lift_title"):
            return f"has {more[0]}, which is for holds; leave it out, or write kind: hold"
        return ""

    def _hold_fault(self) -> str:
        if self.replace is not None:
            return "is a hold in place of a step; write it after or before one"
        if self.command:
            return "has command, which is no hold's; write read, place and lift"
        commands = self._given(*HOLD_COMMANDS)
        if self.run is not None and (more := commands + self._given("hold")):
            return f"has both run and {more[0]}; keep one"
        if self.run is None and (len(commands) != len(HOLD_COMMANDS) or self.hold is None):
            return "needs run, or hold (its name) with read, place and lift; write them"
        if len(self._given(*LIFTS)) != 1:
            return "needs lift_after or lift_before; every hold is lifted by a step, write after or before which"
        return ""
