"""Recording: DVC and git hold what anybody needs to reproduce and restore a version.

    ready.py     where a workspace records, and why it cannot     git.py      commits that touch nothing else
    present.py   which version the manifests are                  dvc.py      DVC as a program
    steps.py     the steps, each of which can be done again       remote.py   what the DVC remote really holds
    models.py    the stages of fine-tuned models

Not a stage: `snapdex run --record` records the version that the stages made. A version whose row names no git commit is
a pending record; the next recorded run finishes it first.
"""

from dataclasses import replace

from pipelines.config import Config
from pipelines.errors import NotFoundError
from pipelines.files import Workspace
from pipelines.record.models import commit_stages
from pipelines.record.present import is_whole, present_version
from pipelines.record.ready import Place, prepare
from pipelines.record.steps import Record, is_recorded, record, recorded_commit, refer_again

__all__ = ["Place", "Record", "begin_record", "commit_stages", "complete_record"]


def begin_record(config: Config, workspace: Workspace) -> Place:
    """Where this workspace records; before any work, because a refusal must not cost any.

    A pending record is finished now, while the manifests still are those of its version. If a later state has replaced
    them in part, that version stays without a record, and the note says so.
    """
    place = prepare(config, workspace)
    version = present_version(config, workspace)
    if version is None or is_recorded(place, version):
        return place
    if commit := recorded_commit(place, version):
        refer_again(place, version, commit)
        return place
    if is_whole(config, workspace, version):
        record(place, version)
        return place
    left = f"v{version.number} stays without a record: files or parameters of the workspace have gone on"
    return replace(place, note="; ".join(filter(None, [place.note, left])))


def complete_record(config: Config, place: Place) -> Record:
    """Record the version that the manifests now are, whether this run made it or an earlier one."""
    version = present_version(config, place.workspace)
    if version is None:
        raise NotFoundError("there is no version to record", hint="snapdex run --record makes one")
    return record(place, version)
