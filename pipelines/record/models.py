"""What a training made, in DVC: the next `dvc repro` finds nothing to do."""

from pipelines.files import Workspace
from pipelines.record import dvc
from pipelines.record.remote import our_stages


def commit_stages(workspace: Workspace, stages: list[str]) -> None:
    """`dvc commit` for those of these stages that dvc.yaml has: of models that `models` names."""
    if not (workspace.root / ".dvc").is_dir() or not (workspace.root / "dvc.yaml").exists():
        return
    there = set(our_stages(workspace.root, of_models=True))
    if wanted := [stage for stage in stages if stage in there]:
        dvc.commit(workspace.root, wanted)
