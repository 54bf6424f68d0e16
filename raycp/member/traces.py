"""What the processes that export traces have in common: by what a backend knows them, and how they report that they can't."""

from raycp.base.problems import FLEET, ProblemCode, Subject
from raycp.base.release import this_release
from raycp.metrics.traces import TraceExport
from raycp.protocol.members import Member


def member_attributes(member: Member) -> dict[str, str]:
    """The attributes of a process: OpenTelemetry's "Service" resource."""
    return {"service.instance.id": member.actor_name, "service.version": this_release(), "raycp.role": member.role.value}


def trace_problems(export: TraceExport) -> dict[Subject, str]:
    """Why this process does not export its spans though it should; without any where it does."""
    return {(ProblemCode.TRACES_NOT_EXPORTED, FLEET): export.problem} if export.problem else {}
