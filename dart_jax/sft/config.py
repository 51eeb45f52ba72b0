"""Settings of supervised fine-tuning, shared by the distill and the repair stage."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from dart_jax.settings import (
    BadSetting,
    Count,
    LossWeightOrZero,
    Name,
    NotNegative,
    Positive,
    Range,
    Share,
    check_fields,
)

Length = Annotated[int, Range(least=2)]

# Settings of SftConfig that concern layout, memory, speed and log only. Which examples meet in a
# step, and the loss of that step, are the same whatever they are, within the noise of rounding.
_LAYOUT = (
    "micro_batch_size",
    "micro_batch_tokens",
    "row_length",
    "attention",
    "loss_chunk",
    "remat",
    "checkpoint_every",
    "profile_steps",
)


@dataclass(frozen=True)
class LossConfig:
    """The loss of a token; `sft.token_losses` has the formulas.

    Attributes:
        fn: Loss of a target's tokens: cross_entropy, focal, or a function of your own as module.function, importable from the current directory.
        focal_gamma: Exponent of focal, which is (1 - p)^gamma times the cross-entropy; 0 is the cross-entropy.
        reference: Give your own function the starting adapter's cross-entropy and the KL divergence from it; costs a second forward pass.
        unlikelihood_weight: For repair.loss only. Above 0, the drifted rationale of every repaired case is trained on, too, and its loss is this times -log(1 - p), at the weight of its repair.
        kl_weight: For repair.loss only. Above 0, the loss of replayed targets is this times KL(starting adapter || trained adapter) over the whole vocabulary, in place of fn; needs repair.replay.
        preference: For repair.loss only. A repair and the drifted rationale that it replaces become a pair, weighted by its severity, in place of fn: dpo (Rafailov et al. 2023; the reference is the starting adapter, M_int) or orpo (Hong et al. 2024; added to fn of the repair, without a reference). Replayed targets keep fn or kl_weight. none compares nothing.
        preference_beta: Factor of the log-ratio of a pair in dpo (beta there), of the odds-ratio term in orpo (lambda there).
        toxicity_weight: For sft.loss only. Above 0, M0 answers the training questions, the scorer scores the answers, and this times the expected score is added to the distill loss (joint toxicity regularisation).
    """

    fn: Name = "cross_entropy"
    focal_gamma: NotNegative = 2.0
    reference: bool = False
    unlikelihood_weight: LossWeightOrZero = 0.0
    kl_weight: LossWeightOrZero = 0.0
    preference: Literal["none", "dpo", "orpo"] = "none"
    preference_beta: Positive = 0.1
    toxicity_weight: LossWeightOrZero = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "loss")
        if self.compares and self.unlikelihood_weight > 0:
            raise BadSetting(
                f"loss.preference: {self.preference}; it trains on the drifted rationales, as "
                "loss.unlikelihood_weight does: set that to 0, or loss.preference to none"
            )

    def check(self, key: str, *foreign: str) -> None:
        """Raises BadSetting, naming the setting under `key`.

        Args:
            foreign: Settings that have no meaning there.
        """
        for name in foreign:
            if getattr(self, name) not in (0, "none"):
                other = "sft.loss" if key == "repair.loss" else "repair.loss"
                raise BadSetting(f"{key}.{name}: {getattr(self, name)}; set {other}.{name} instead")

    @property
    def compares(self) -> bool:
        """Tell whether a repair is compared with what it replaces."""
        return self.preference != "none"

    @property
    def needs_drifted(self) -> bool:
        """Tell whether the drifted rationales are trained on, too."""
        return self.compares or self.unlikelihood_weight > 0

    @property
    def is_plain(self) -> bool:
        """Tell whether it is the weighted cross-entropy and nothing else."""
        parts = (self.unlikelihood_weight, self.kl_weight, self.toxicity_weight, self.compares)
        return self.fn == "cross_entropy" and not any(parts)

    def identity(self) -> dict[str, Any]:
        """Return the settings that can change a loss."""
        settings = asdict(self)
        if not self.compares:
            del settings["preference"], settings["preference_beta"]  # as before there were such
        return settings


@dataclass(frozen=True)
class SftConfig:
    """Optimizer, batches and checkpoints; the defaults are the DART release's.

    Attributes:
        learning_rate: Peak learning rate, above 0, of the distill stage (repair has its own).
        epochs: Passes over the distill targets (repair has its own).
        batch_size: Examples per optimizer step, whatever the packing; a pair of repair.loss.preference counts as one.
        micro_batch_size: Examples per forward pass; null takes batch_size. Gradients are summed.
        micro_batch_tokens: Tokens of a forward pass on each device, padding included, in place of micro_batch_size: as few micro-batches as keep to it, so that short examples or more devices take fewer; null for no limit.
        max_length: Longest example in tokens (prompt and completion); a longer one is an error.
        packing: How examples share a row: none (one each, padded); segments (several, each seeing itself only); shared_prefix (the same, and what all prompts begin with is there once). Loss and gradients are those of none; with lora.dropout, the shared prefix of a row has one noise.
        row_length: Longest packed row in tokens.
        attention: xla; cudnn (NVIDIA); splash (TPU); auto takes what the devices have.
        validation_share: Share of the distill targets, from 0 to below 1, that is held out of that training and of repair.replay; their loss is measured before the first step and after each epoch. Rows of one scenario, or with the same words, stay together.
        validate_every: Steps between further measurements of that loss; null for none within an epoch.
        early_stopping: Measurements in a row without a new least loss of the held-out targets, after which the distill training ends. Its adapter is then that of the least loss, in every case; null trains all epochs and takes the last.
        warmup_share: Share of the steps, from 0 to 1, over which the learning rate rises, then a cosine falls.
        weight_decay: Decoupled weight decay (AdamW), from 0.
        clip_norm: Global gradient norm limit, above 0; null for none.
        loss_normalization: What the weighted loss sum is a mean over: weighted_token_mean divides by the sum of the weights, so that weight k equals k copies; token_mean by the number of supervised tokens; example_mean takes the mean of each example's tokens, then of the examples.
        loss: The loss of a token in the distill stage (repair has its own).
        loss_chunk: Supervised positions that meet the vocabulary at once, on each device.
        remat: What the backward pass recomputes: none; projections (all but the matrix products with weights: faster than none on a CPU, a quarter of its memory); layer (everything: least memory, a third slower).
        checkpoint_every: Steps between checkpoints; a crash loses at most these.
        profile_steps: First and last step to trace for TensorBoard's profiler, such as [3, 5]; null for none.
    """

    learning_rate: Positive = 2e-4
    epochs: Count = 3
    batch_size: Count = 8
    micro_batch_size: Count | None = None
    micro_batch_tokens: Count | None = None
    max_length: Length = 1024
    packing: Literal["none", "segments", "shared_prefix"] = "shared_prefix"
    row_length: Length = 2048
    attention: Literal["auto", "xla", "cudnn", "splash"] = "auto"
    validation_share: Annotated[float, Range(least=0, below=1)] = 0.0
    validate_every: Count | None = None
    early_stopping: Count | None = None
    warmup_share: Share = 0.03
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = 1.0
    loss_normalization: Literal["weighted_token_mean", "token_mean", "example_mean"] = (
        "weighted_token_mean"
    )
    loss: LossConfig = field(default_factory=LossConfig)
    loss_chunk: Count = 256
    remat: Literal["none", "projections", "layer"] = "projections"
    checkpoint_every: Count = 10
    profile_steps: tuple[Count, Count] | None = None

    def __post_init__(self) -> None:
        check_fields(self, "sft")
        self.loss.check("sft.loss", "unlikelihood_weight", "kl_weight", "preference")
        micro = self.micro_batch_size
        if micro is not None and self.batch_size % micro:
            raise BadSetting(
                f"sft.micro_batch_size: {micro}; give a divisor of sft.batch_size, which is "
                f"{self.batch_size}"
            )
        self._check_micro_batch_tokens()
        if self.profile_steps is not None and self.profile_steps[0] > self.profile_steps[1]:
            first, last = self.profile_steps
            raise BadSetting(f"sft.profile_steps: [{first}, {last}]; give the first step first")
        for name in ("validate_every", "early_stopping"):
            if getattr(self, name) is not None and not self.validation_share:
                raise BadSetting(
                    f"sft.{name}: {getattr(self, name)}; it needs held-out targets: set "
                    "sft.validation_share, too"
                )

    def _check_micro_batch_tokens(self) -> None:
        tokens = self.micro_batch_tokens
        if tokens is None:
            return
        if self.micro_batch_size is not None:
            raise BadSetting(
                f"sft.micro_batch_tokens: {tokens}; it takes the place of sft.micro_batch_size, "
                f"which is {self.micro_batch_size}: set one of them to null"
            )
        if tokens < self.max_length:
            raise BadSetting(
                f"sft.micro_batch_tokens: {tokens}; give sft.max_length, which is "
                f"{self.max_length}, or more, so that every example fits"
            )

    def identity(self) -> dict[str, Any]:
        """The settings that can change what is trained; a stopped training may change the others.

        With `lora.dropout`, the layout decides which features the noise drops, as another seed
        would, and not how much noise there is: the layout is left out there, too.
        """
        settings = {key: value for key, value in asdict(self).items() if key not in _LAYOUT}
        # Each is left out where it changes nothing, as before there was such a setting.
        if not self.validation_share:
            del settings["validation_share"]
        if self.early_stopping is None:
            # Measurements that stop nothing are a matter of the log.
            del settings["early_stopping"], settings["validate_every"]
        return settings

    @property
    def micro_batch_counts(self) -> list[int]:
        """Numbers of micro-batches that a step may have, rising; one without a limit of tokens."""
        if self.micro_batch_tokens is None:
            return [self.batch_size // (self.micro_batch_size or self.batch_size)]
        doubled = [2**power for power in range(self.batch_size.bit_length())]
        # With a micro-batch for each example, any limit is kept.
        return sorted({*doubled, self.batch_size})
