"""Compile MaxText's LoRA training step of Llama-3-8B for eight v5e chips, to stand beside ours.

    python tests/compile_maxtext.py [--stock-adapters] remat_policy=full num_vocab_tiling=8 \
        param_scan_axis=0

in an environment of its own (Python 3.12) with maxtext 0.2.5 and what it needs, jax 0.12.0.1 and
libtpu 0.0.50.1; nothing of dart_jax is imported. The words are settings of MaxText. It prints the
memory of a chip as `dart_jax compile` counts it, which is the table `maxtext` of
configs/results/compiled.json.

MaxText 0.2.5 trains only the adapters where `lora.enable_lora` is set, but its `train_compile`
puts none into the model; here its own `apply_lora_to_model` does. Adapters and their moments are
float32, as ours are, unless --stock-adapters leaves them in the type of the base.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

LENGTH = 2048
SETTINGS = (
    "run_name=lora model_name=llama3-8b compile_topology=v5e-8 compile_topology_num_slices=1"
    f" per_device_batch_size=1 max_target_length={LENGTH} weight_dtype=bfloat16 dtype=bfloat16"
    " scan_layers=true ici_fsdp_parallelism=8 attention=flash dataset_type=synthetic"
    " enable_checkpointing=false packing=false opt_type=adamw skip_jax_distributed_system=true"
)
LORA = "lora={enable_lora: true, lora_rank: 16, lora_alpha: 32.0}"


def put_adapters_into_the_model(float32: bool) -> None:
    """Have the model that MaxText's `train_compile` makes go through MaxText's own LoRA.

    Three things keep that from working on shapes alone: its trial call has one token, which the
    attention kernel refuses; it places arrays on devices; and the trial leaves hidden states.
    """
    import jax.numpy as jnp
    from flax import nnx
    from maxtext.utils import lora_utils, model_creation_utils

    create_abstract_model = model_creation_utils.create_nnx_abstract_model
    trial_inputs = lora_utils._prepare_dummy_inputs

    def create(config: Any, mesh: Any = None, *args: Any, **options: Any) -> tuple[Any, Any]:
        create_model, model = create_abstract_model(config, mesh, *args, **options)
        lora_utils._prepare_dummy_inputs = lambda *_, **__: trial_inputs(mesh, 1, LENGTH)

        def create_with_adapters() -> Any:
            adapted = lora_utils.apply_lora_to_model(create_model(), None, config)
            nnx.pop(adapted, nnx.Intermediate)
            if float32:
                for _, value in nnx.iter_graph(adapted):
                    if isinstance(value, nnx.LoRAParam):
                        value.set_value(value.get_value().astype(jnp.float32))
            return adapted

        return create_with_adapters, model

    model_creation_utils.create_nnx_abstract_model = create


def multiply_adapters_in_the_activations_type() -> None:
    """Cast float32 adapters where they are used; qwix would make the activations float32."""
    from qwix._src.providers import lora

    delta = lora._compute_lora_delta

    def in_type_of_activations(lhs: Any, a: Any, b: Any, *args: Any, **options: Any) -> Any:
        return delta(lhs, a.astype(lhs.dtype), b.astype(lhs.dtype), *args, **options)

    lora._compute_lora_delta = in_type_of_activations


def figures(compiled: Any, state: Any) -> dict[str, Any]:
    """The memory of a chip in GiB, and the numbers that are trained."""
    import jax
    from flax import nnx

    memory = compiled.memory_analysis()
    total = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    total += memory.output_size_in_bytes - memory.alias_size_in_bytes
    trained = [
        leaf
        for leaf in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, nnx.LoRAParam))
        if isinstance(leaf, nnx.LoRAParam)
    ]
    return {
        "gib": round(total / 2**30, 2),
        "host_mib": round(memory.host_temp_size_in_bytes / 2**20),
        "trained": sum(leaf.get_value().size for leaf in trained),
    }


def main() -> None:
    """Parse the arguments, compile, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("settings", nargs="*", help="settings of MaxText, as name=value")
    parser.add_argument("--stock-adapters", action="store_true", help="in the type of the base")
    options = parser.parse_args()

    import maxtext
    from maxtext.trainers.pre_train import train_compile

    put_adapters_into_the_model(float32=not options.stock_adapters)
    moments = []
    if not options.stock_adapters:
        multiply_adapters_in_the_activations_type()
        moments = ["mu_dtype=float32"]

    compile_step = train_compile.jit_and_compile

    def and_tell(step: Any, args: Any, *rest: Any) -> Any:
        compiled = compile_step(step, args, *rest)
        print(json.dumps(figures(compiled, args[0])), flush=True)
        return compiled

    train_compile.jit_and_compile = and_tell
    base = Path(maxtext.__file__).parent / "configs/base.yml"
    train_compile.main(
        [sys.argv[0], str(base), *SETTINGS.split(), LORA, *moments, *options.settings]
    )


if __name__ == "__main__":
    main()
