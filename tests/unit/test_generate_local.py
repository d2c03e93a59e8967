"""Real language models, small ones of random weights that are made here: what is said to them, and what they write."""

import json
import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipelines.config import GenerateConfig
from pipelines.errors import ConfigError, InputError, ServiceUnavailable
from pipelines.files import Workspace
from pipelines.generate import LanguageModel, Message, load_generator
from pipelines.generate.likelihood import answer_likelihood
from pipelines.generate.local import LocalModel, plain
from pipelines.models import Generator, resolve_generator
from tests.tracking.client import client_of

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
WITHOUT_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no place for it') }}{% endif %}" + TEMPLATE
WINDOW = 256


def small_writer(directory: Path, template: str | None = None, seed: int = 3, window: int = WINDOW) -> Path:
    """A Llama of one layer; it writes nonsense, and the same nonsense each time."""
    words = Tokenizer(BPE())
    words.pre_tokenizer = ByteLevel(add_prefix_space=False)
    special = ["<end>", "<user>", "<system>", "<assistant>"]
    trainer = BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    words.train_from_iterator(["the quick brown fox jumps over the lazy dog and asks why"] * 3, trainer)
    from tokenizers.decoders import ByteLevel as Decoder

    words.decoder = Decoder()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", model_max_length=window)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(directory)
    torch.manual_seed(seed)
    size = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=window,
        initializer_range=0.5,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(size).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_writer(tmp_path_factory.mktemp("writer") / "model", TEMPLATE)


def config(directory: Path, **more: object) -> GenerateConfig:
    return GenerateConfig.model_validate(
        {"model": f"path:{directory}", "max_tokens": 12, "threads": 1, "concurrency": 3} | more
    )


def resolved(directory: Path, workspace: Path) -> Generator:
    return resolve_generator(config(directory), Workspace(workspace))


@pytest.fixture
def model(directory: Path, tmp_path: Path) -> Iterator[LanguageModel]:
    with load_generator(resolved(directory, tmp_path), config(directory)) as loaded:
        yield loaded


def user(text: str) -> list[Message]:
    return [Message("user", text)]


TEXTS = ["why?", "the quick brown fox asks the lazy dog why it jumps over and over", "dog", "a fox jumps", "é → 狐"]


# -- what it writes ----------------------------------------------------------------------------------------------------


def test_neighbours_in_a_batch_do_not_change_an_answer(model: LanguageModel) -> None:
    together = list(model.complete(map(user, TEXTS)))
    alone = [next(model.complete([user(text)])) for text in TEXTS]
    assert [each.text for each in together] == [each.text for each in alone]
    assert len({each.text for each in together}) == len(TEXTS)
    assert [each.prompt_tokens for each in together] == [each.prompt_tokens for each in alone]
    assert [each.completion_tokens for each in together] == [each.completion_tokens for each in alone]
    assert all(0 < each.completion_tokens <= 12 for each in together)
    assert {each.finish for each in together} <= {"stop", "length"}


def test_what_is_streamed_is_what_is_completed(model: LanguageModel) -> None:
    count = 0
    for text in TEXTS:
        pieces = list(model.stream(user(text), max_tokens=30))
        assert "".join(pieces).strip() == next(model.complete([user(text)], max_tokens=30)).text
        count += len(pieces)
    assert count > 2 * len(TEXTS)


def test_a_stream_that_nobody_reads_on_ends(directory: Path, tmp_path: Path) -> None:
    with load_generator(resolved(directory, tmp_path), config(directory, max_tokens=200)) as model:
        pieces = model.stream(user("why?"))
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert next(model.complete([user("why?")], max_tokens=3)).completion_tokens <= 3


# -- several who ask it ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It may write for minutes."""
    return small_writer(tmp_path_factory.mktemp("talker") / "model", TEMPLATE, window=100_000)


def test_threads_take_turns_at_the_weights(directory: Path, tmp_path: Path) -> None:
    inside = threading.Lock()
    with LocalModel(resolved(directory, tmp_path), config(directory)) as model:
        generate, forward = model.weights.generate, model.weights.forward

        def alone(work: Any) -> Any:
            def watched(*args: Any, **named: Any) -> Any:
                assert inside.acquire(blocking=False), "two threads at once"
                try:
                    return work(*args, **named)
                finally:
                    inside.release()

            return watched

        model.weights.generate = alone(generate)
        expected = [next(model.complete([user(text)])).text for text in TEXTS]
        with ThreadPoolExecutor(8) as pool:
            whole = [pool.submit(lambda text: next(model.complete([user(text)])).text, text) for text in TEXTS]
            pieces = [pool.submit(lambda text: "".join(model.stream(user(text))).strip(), text) for text in TEXTS]
            assert [each.result() for each in whole] == [each.result() for each in pieces] == expected
        model.weights.generate, model.weights.forward = generate, alone(forward)
        with ThreadPoolExecutor(4) as pool:
            likely = [pool.submit(answer_likelihood, model, user(text), "a fox") for text in TEXTS]
            assert all(each.result() < 0 for each in likely)


def test_a_stream_that_nobody_reads_or_closes_leaves_the_model_to_others(directory: Path, tmp_path: Path) -> None:
    with load_generator(resolved(directory, tmp_path), config(directory, max_tokens=200)) as model:
        abandoned = model.stream(user("why?"))
        next(abandoned)
        assert next(model.complete([user("why?")], max_tokens=3)).completion_tokens <= 3


def test_whoever_waits_too_long_for_its_turn_is_told_so(talker: Path, tmp_path: Path) -> None:
    with load_generator(resolved(talker, tmp_path), config(talker, timeout_seconds=0.2)) as model:
        pieces = model.stream(user("why?"), max_tokens=90_000)
        next(pieces)
        for asked in (model.complete([user("why?")]), model.stream(user("why?"))):
            with pytest.raises(ServiceUnavailable, match=r"busy with other questions for 0\.2 s"):
                next(iter(asked))
        pieces.close()  # type: ignore[attr-defined]
        assert next(model.complete([user("why?")], max_tokens=3)).completion_tokens <= 3


def test_who_closes_it_ends_what_is_being_written(talker: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    with load_generator(resolved(talker, tmp_path), config(talker, timeout_seconds=60)) as model:
        pieces = model.stream(user("why?"), max_tokens=90_000)
        next(pieces)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: next(model.complete([user("why?")])))
            model.__exit__(None, None, None)
            for ended in (lambda: list(pieces), waiting.result, lambda: next(model.complete([user("why?")]))):
                with pytest.raises(ServiceUnavailable, match="is being closed"):
                    ended()
    assert time.monotonic() - began < 20


# -- how it is told ----------------------------------------------------------------------------------------------------


def test_what_the_folder_says_about_sampling_does_not_hold(directory: Path, tmp_path: Path) -> None:
    expected = answer(directory, tmp_path)
    copy = shutil.copytree(directory, tmp_path / "copy")
    chosen = json.loads((copy / "generation_config.json").read_text("utf-8"))
    chosen |= {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 3.0}
    (copy / "generation_config.json").write_text(json.dumps(chosen), "utf-8")
    assert {answer(copy, tmp_path) for _ in range(3)} == {expected}


def answer(directory: Path, workspace: Path, text: str = "why does the dog ask?", **more: object) -> str:
    with load_generator(resolved(directory, workspace), config(directory, **more)) as model:
        return next(model.complete([[Message("system", "fox"), *user(text)]])).text


def test_with_a_temperature_it_varies(directory: Path, tmp_path: Path) -> None:
    assert len({answer(directory, tmp_path, temperature=3.0) for _ in range(3)}) > 1


def test_a_conversation_becomes_a_text_by_the_template_of_the_model(directory: Path, tmp_path: Path) -> None:
    told = [Message("system", "be a fox"), *user("why?")]

    def said(folder: Path) -> str:
        with LocalModel(resolved(folder, tmp_path), config(folder)) as model:
            return str(model._tokenizer.decode(model._prompt(told, 1)))

    assert said(directory) == "<system>be a fox<end><user>why?<end><assistant>"
    assert said(small_writer(tmp_path / "no", WITHOUT_SYSTEM)) == "<user>be a fox\n\nwhy?<end><assistant>"
    assert said(small_writer(tmp_path / "plain")) == plain(told) == "be a fox\n\nUser: why?\n\nAssistant:"


def test_what_does_not_fit_is_refused(model: LanguageModel) -> None:
    with pytest.raises(InputError, match="holds 256") as caught:
        next(model.complete([user("why? " * 300)]))
    assert "generate.max_tokens" in caught.value.hint
    with pytest.raises(InputError, match="holds 256"):
        next(model.stream(user("why? " * 300)))


# -- which model it is -------------------------------------------------------------------------------------------------


def test_a_revision_is_that_of_the_files_that_shape_answers(directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "elsewhere")
    (copy / "README.md").write_text("mine", "utf-8")
    found = resolved(directory, tmp_path)
    assert resolved(copy, tmp_path).revision == found.revision
    assert found.window == WINDOW
    (copy / "chat_template.jinja").write_text("{{ messages }}", "utf-8")
    assert resolved(copy, tmp_path).revision != found.revision


OF_PEFT = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT 0.21 with transformers 5.23
pytestmark = pytest.mark.filterwarnings(OF_PEFT)


@pytest.fixture(scope="module")
def adapter(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of `directory` that changes what is written."""
    base = LlamaForCausalLM.from_pretrained(directory)
    size = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        learned = get_peft_model(base, size)
    target = tmp_path_factory.mktemp("adapter") / "lora"
    learned.save_pretrained(target)
    return target


def test_an_adapter_names_its_base_and_changes_what_is_written(directory: Path, adapter: Path, tmp_path: Path) -> None:
    found, base = resolved(adapter, tmp_path), resolved(directory, tmp_path)
    assert found.directory == base.directory
    assert found.revision != base.revision
    assert answer(adapter, tmp_path) != answer(directory, tmp_path)


def test_the_base_of_an_adapter_may_lie_in_the_workspace_and_has_to_be_somewhere(
    directory: Path, adapter: Path, tmp_path: Path
) -> None:
    shutil.copytree(directory, tmp_path / "models" / "base")
    copy = shutil.copytree(adapter, tmp_path / "copy")

    def name_base(**facts: object) -> Generator:
        said = json.loads((copy / "adapter_config.json").read_text("utf-8")) | facts
        (copy / "adapter_config.json").write_text(json.dumps(said), "utf-8")
        return resolved(copy, tmp_path)

    for name in ("models/base", "path:models/base"):
        assert name_base(base_model_name_or_path=name).directory == (tmp_path / "models" / "base").resolve()
    with pytest.raises(ConfigError, match="names no base model"):
        name_base(base_model_name_or_path=None)
    with pytest.raises(ConfigError, match="has no commit"):
        name_base(base_model_name_or_path="someone/model")


@pytest.mark.parametrize(
    ("file", "facts", "reason"),
    [
        ("adapter_config.json", {"peft_type": "XLORA"}, "not one of LoRA"),
        ("adapter_config.json", {"task_type": "SEQ_CLS"}, "not one of LoRA"),
        ("adapter_config.json", {"megatron_config": {"a": 1}}, "code of its own"),
        ("adapter_config.json", {"auto_mapping": {"parent_library": "os"}}, "code of its own"),
    ],
)
def test_an_adapter_that_could_run_code_is_refused(
    file: str, facts: dict[str, object], reason: str, adapter: Path, tmp_path: Path
) -> None:
    refused(shutil.copytree(adapter, tmp_path / "copy"), file, facts, reason)


@pytest.mark.parametrize(
    ("file", "facts", "reason"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "code of its own"),
        ("config.json", {"attn_implementation": "someone/kernel"}, "code of a hub"),
        ("config.json", {"architectures": ["BertModel"]}, "not a model that writes"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokens", None]}}, "code of its own"),
    ],
)
def test_a_folder_that_could_run_code_is_refused(
    file: str, facts: dict[str, object], reason: str, directory: Path, tmp_path: Path
) -> None:
    refused(shutil.copytree(directory, tmp_path / "copy"), file, facts, reason)


def refused(folder: Path, file: str, facts: dict[str, object], reason: str) -> None:
    said = json.loads((folder / file).read_text("utf-8")) | facts
    (folder / file).write_text(json.dumps(said), "utf-8")
    with pytest.raises(InputError, match=reason):
        resolved(folder, folder.parent)


def test_pickles_and_nothing_are_refused(directory: Path, adapter: Path, tmp_path: Path) -> None:
    for source, weights in ((directory, "model.safetensors"), (adapter, "adapter_model.safetensors")):
        copy = shutil.copytree(source, tmp_path / source.name)
        (copy / weights).rename(copy / "pytorch_model.bin")
        with pytest.raises(InputError, match=r"pickle|missing"):
            resolved(copy, tmp_path)
    with pytest.raises(InputError, match=r"there is no directory .*nowhere") as caught:
        resolved(tmp_path / "nowhere", tmp_path)
    assert "generate.model" in caught.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no config\.json"):
        resolved(tmp_path / "empty", tmp_path)


@pytest.mark.parametrize("name", ["", "gpt", "openai:", "path:", "minilm", "hf:some/model", "hf:some/model@main"])
def test_only_a_name_that_cannot_change_its_meaning_is_known(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError) as caught:
        resolve_generator(GenerateConfig(model=name), Workspace(tmp_path))
    assert "generate.model" in f"{caught.value} {caught.value.hint}"


def test_a_model_of_the_hub_is_its_files_at_a_commit(
    directory: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the cache of the hub, as a download leaves it: nothing is fetched."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    for name, source in (("model", directory), ("lora", adapter)):
        shutil.copytree(source, tmp_path / "hub" / f"models--some--{name}" / "snapshots" / commit)
    lora = tmp_path / "hub" / "models--some--lora" / "snapshots" / commit / "adapter_config.json"
    said = json.loads(lora.read_text("utf-8"))
    lora.write_text(json.dumps(said | {"base_model_name_or_path": "some/model", "revision": commit}), "utf-8")

    def named(name: str) -> Generator:
        return resolve_generator(GenerateConfig(model=name), Workspace(tmp_path))

    whole = named(f"hf:some/model@{commit}")
    assert whole.revision == resolved(directory, tmp_path).revision
    adapted = named(f"hf:some/lora@{commit}")
    assert adapted.directory == whole.directory
    assert adapted.adapter == lora.parent


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_alias_of_the_registry_is_remembered_as_a_version(
    directory: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    client.create_registered_model("writer")
    for source in (directory, adapter):
        client.create_model_version("writer", source.as_uri())
    client.set_registered_model_alias("writer", "champion", "2")
    found = resolve_generator(GenerateConfig(model="mlflow:writer@champion"), Workspace(tmp_path))
    assert found.name == "mlflow:writer@2"
    assert found.revision == resolved(adapter, tmp_path).revision
    assert resolve_generator(GenerateConfig(model="mlflow:writer@1"), Workspace(tmp_path)).adapter is None
