"""Which version the manifests are, and whether they all still are of it."""

from pipelines import chunk, index, parse
from pipelines.config import Config
from pipelines.errors import ConfigError, InputError
from pipelines.files import Workspace
from pipelines.manifests import read_chunks, read_documents, read_elements, read_embeddings
from pipelines.models import resolve_model


def present_version(config: Config, workspace: Workspace) -> index.Version | None:
    """The version that manifest `snapshot` names, where this database has it."""
    named = index.read_recorded(workspace, config.index.name)
    if named is None:
        return None
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        found = index.find_version(connection, config.index.name, f"v{named.version}")
    return found if found and found.snapshot == named.snapshot else None


def is_whole(config: Config, workspace: Workspace, version: index.Version) -> bool:
    """Whether manifests and parameters are those that made the version.

    A run that was killed between two stages, or an edit of params.yaml, leaves a state that is of no version.
    """
    name = config.index.name
    try:
        model = resolve_model(config.embed, workspace)
        documents = read_documents(workspace, name)
        parser, elements = read_elements(workspace, name)
        recipe, chunks = read_chunks(workspace, name)
        space, embeddings = read_embeddings(workspace, name)
        writing = chunk.writing(config, workspace)
    except (InputError, ConfigError):
        return False
    parsed = {(each.uri, each.failed_sha256 or each.content_sha256) for each in elements}
    indexed = {(each.uri, each.content_sha256, each.media_type) for each in elements if each.element_key}
    return (
        parser == parse.fingerprint(config.parse)
        and recipe == chunk.recipe(config.chunk, parser, model, writing)
        and space == model.space
        and parsed == {(each.uri, each.content_sha256) for each in documents}
        and indexed == {(each.uri, each.content_sha256, each.media_type) for each in chunks}
        and {each.revision_key for each in chunks} == {each.revision_key for each in embeddings}
        and index.snapshot_of(chunks, recipe, space) == version.snapshot
    )
