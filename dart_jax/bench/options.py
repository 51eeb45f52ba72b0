"""The options of the benchmarks; what they measure is imported when it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from dart_jax.model.config import ModelConfig
from dart_jax.settings import Count, Positive
from dart_jax.sft.config import SftConfig

Dtype = Literal["float32", "bfloat16"]
Packing = Literal["none", "segments", "shared_prefix"]
PeerKind = Literal[
    "plain", "supervised", "autocast", "adapter", "packed", "compiled", "packed_compiled"
]
"""The ways in which PEFT trains, see `jobs.PEER_KINDS`."""
HfPeer = Literal["hf", "hf_continuous", "hf_mixed"]
ForeignPeer = Literal["vllm", "ctranslate2", "openvino"]
"""Peers in environments of their own."""
Peer = Literal[HfPeer, ForeignPeer]
Mode = Literal["fixed", "natural", "sampled"]


@dataclass(frozen=True, kw_only=True)
class ContestOptions:
    """Options of both contests against Hugging Face.

    Attributes:
        rounds: Timed rounds of each side.
        run: Folder of a finished run, whose examples or models are taken.
        ours_dtype: Types that we try.
        peer_dtype: Types that the peer tries.
        peer_batches: Batch sizes that the peer is tuned over.
        seed: Seed of adapter, order and noise.
        out: JSON file to write.
    """

    rounds: Count = 3
    run: Path | None = None
    ours_dtype: tuple[Dtype, ...] = ("float32", "bfloat16")
    peer_dtype: tuple[Dtype, ...] = ("float32", "bfloat16")
    peer_batches: tuple[Count, ...]
    seed: int = 0
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ContestOptions):
    """Training speed and memory against Hugging Face PEFT, in turn.

    Attributes:
        model: As model.path.
        examples: Examples in an epoch.
        batch_size: Examples per optimizer step.
        packing: As sft.packing, each for variants of ours of their own.
        row_length: As sft.row_length.
        peer_kinds: Ways in which the peer trains, see bench/README.md; types and batch sizes are
            tuned with supervised.
        tune_examples: Examples in a tuning round.
        shape: In place of a model and its examples, random weights and tokens, 8 x 2048, bfloat16.
    """

    peer_batches: tuple[Count, ...] = (1, 4, 8, 16)
    model: str = ModelConfig.path
    examples: Count = 128
    batch_size: Count = 16
    packing: tuple[Packing, ...] = get_args(Packing)
    row_length: Count = SftConfig.row_length
    peer_kinds: tuple[PeerKind, ...] = get_args(PeerKind)
    tune_examples: Count = 16
    shape: Literal["llama-3-8b"] | None = None


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(ContestOptions):
    """Decoding pairs of models against Hugging Face generate, in turn.

    Attributes:
        model: As model.path, with the mini suite and a random adapter; not with --run.
        peers: hf is generate in batches, hf_continuous its generate_batch, hf_mixed both models
            in a batch; the others need --make-peer once. The default is all that are installed.
        make_peer: Make the environment of this peer, and measure nothing.
        modes: Rules of stopping; sampled is against the release's settings.
        prompts: Pairs of answers.
        tune_prompts: Pairs of answers in a tuning round of the peer.
        new_tokens: Tokens of an answer, where their number is fixed.
        natural_limit: Most tokens of an answer, with natural stops.
        slots: Rows that we decode together, of both models.
    """

    peer_batches: tuple[Count, ...] = (8, 16, 32)
    model: str | None = None
    peers: tuple[Peer, ...] | None = None
    make_peer: ForeignPeer | None = None
    modes: tuple[Mode, ...] = get_args(Mode)
    prompts: Count = 32
    tune_prompts: Count = 32
    new_tokens: Count = 64
    natural_limit: Count = 256
    slots: tuple[Count, ...] = (64,)


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Host memory while a checkpoint is loaded over eight simulated devices.

    Attributes:
        gib: Size of the checkpoint, about.
        out: JSON file to write.
    """

    gib: Positive = 3.0
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Bytes, logits and training of the base in 8 and 4 bits.

    Attributes:
        model: As model.path.
        rows: Texts to measure on.
        steps: Training steps of 8 texts.
        out: JSON file to write.
    """

    model: str = ModelConfig.path
    rows: Count = 16
    steps: Count = 8
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """Throughput and overhead of the chat client against a slow server.

    Attributes:
        requests: Requests in all.
        concurrency: Requests in flight.
        latency: Seconds that the server takes.
        out: JSON file to write.
    """

    requests: Count = 1600
    concurrency: Count = 32
    latency: Positive = 0.2
    out: Path | None = None
