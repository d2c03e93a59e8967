"""What a Prefect server does by itself: evaluate after publishing, tell of what went wrong, end what died."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import Automation

TAG = "snapdex"
SCHEDULED_TAG = "snapdex-scheduled"
PREFIX = "snapdex: "  # begins the names of automations that are ours
SILENT_AFTER = timedelta(seconds=90)  # three heartbeats
LATE_AFTER = timedelta(minutes=5)  # a worker looks for work every 10 to 15 seconds: this is no worker
OF_SERVER = {"id", "owner_resource"}  # fields that are not declared
STARTED_OR_ENDED = {
    f"prefect.flow-run.{state}" for state in ("Pending", "Running", "Completed", "Failed", "Cancelled", "Crashed")
}


def apply_automations(client: SyncPrefectClient, evaluations: Mapping[str, UUID], notices: UUID) -> list[str]:
    """Create or update ours, by name; `evaluations`: the deployment that evaluates each index.

    Whether one is enabled stays as it is, and so do actions that somebody chose instead of ours.
    """
    wanted = [
        *(_evaluate(name, deployment) for name, deployment in evaluations.items()),
        *_notices(notices),
        _zombies(),
    ]
    for automation in wanted:
        found = client.read_automations_by_name(automation.name)
        if not found:
            client.create_automation(automation)
        elif (merged := _merged(automation, found[0])).model_dump(exclude=OF_SERVER) != found[0].model_dump(
            exclude=OF_SERVER
        ):
            client.update_automation(found[0].id, merged)  # only then: it begins to watch anew, after minutes
    return [automation.name for automation in wanted]


def remove_automations(client: SyncPrefectClient, deployment: UUID) -> None:
    """Delete those of ours that do nothing but run this deployment."""
    for found in client.read_automations():
        runs = [action.deployment_id for action in found.actions if isinstance(action, RunDeployment)]
        if found.name.startswith(PREFIX) and runs == [deployment] and len(found.actions) == 1:
            client.delete_automation(found.id)


def _merged(wanted: AutomationCore, found: Automation) -> AutomationCore:
    ours = {type(action) for action in wanted.actions}
    chosen = any(type(action) not in ours for action in found.actions)
    merged = wanted.model_copy(
        update={"enabled": found.enabled, "actions": found.actions if chosen else wanted.actions}
    )
    # The client leaves out what was not set, the types of triggers and actions too: set every field.
    return AutomationCore.model_validate(merged.model_dump(exclude=OF_SERVER))


def _evaluate(index: str, deployment: UUID) -> AutomationCore:
    return AutomationCore(
        name=f"{PREFIX}evaluate {index} after publish",
        description="Readers have a new version: ask it the golden set, as readers would.",
        trigger=EventTrigger(
            expect={"snapdex.version.published"},
            match={"prefect.resource.id": f"snapdex.index.{index}"},
            posture=Posture.Reactive,
        ),
        actions=[RunDeployment(deployment_id=deployment, parameters={"home": "{{ event.payload.home }}"})],
    )


def _notices(deployment: UUID) -> list[AutomationCore]:
    """Put a notification of your own in the place of the deployment that these run: it is kept."""
    rejected = AutomationCore(
        name=f"{PREFIX}notice of a rejected version",
        description="A version did not pass its gate: readers keep the one before.",
        trigger=EventTrigger(
            expect={"snapdex.version.rejected"},
            match={"prefect.resource.id": "snapdex.index.*"},
            posture=Posture.Reactive,
        ),
        actions=[
            RunDeployment(
                deployment_id=deployment,
                parameters={
                    "subject": "{{ event.payload.index }} v{{ event.payload.version }} was not published",
                    "detail": "{{ event.payload.reason }}",
                },
            )
        ],
    )
    missed = AutomationCore(
        name=f"{PREFIX}notice of a missed schedule",
        description="A scheduled run has not started five minutes after its time: is there a worker?",
        trigger=EventTrigger(
            after={"prefect.flow-run.Late"},
            expect=STARTED_OR_ENDED,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{SCHEDULED_TAG}"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            within=LATE_AFTER,
        ),
        actions=[
            RunDeployment(
                deployment_id=deployment,
                parameters={
                    "subject": "A scheduled run did not start",
                    "detail": "It is late by more than five minutes. Look at the worker: prefect work-pool ls",
                },
            )
        ],
    )
    return [rejected, missed]


def _zombies() -> AutomationCore:
    """A process that was killed says nothing more; its run would be RUNNING for ever."""
    return AutomationCore(
        name=f"{PREFIX}end runs that died",
        description="A run without a heartbeat for 90 seconds is marked as crashed.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            within=SILENT_AFTER,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, name="Crashed", message="no heartbeat for 90 seconds: its process is gone"
            )
        ],
    )
