"""Eight devices: a Flax model starts sharded, with the same weights as in one process.

Run it where initserve[jax] and flax are installed; no accelerator is needed:

    python examples/jax_eight_devices.py
    python examples/jax_eight_devices.py 127.0.0.1:50051     # the weights come from a server
"""

import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

model = nn.Sequential([nn.Embed(1024, 64), nn.Dense(256), nn.relu, nn.Dense(1024)])
tokens = jnp.zeros((1, 16), dtype="int32")

recording = icj.record(lambda: model.init(jax.random.key(0), tokens))  # nothing is computed
plan = recording.plan(seed=7)

mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "model"))
matrices, vectors = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in [("data", "model"), ()])
shapes = jax.tree.map(
    lambda leaf: leaf.update(sharding=matrices if leaf.ndim == 2 else vectors), recording.shapes
)
params = icj.init(shapes, plan, target=sys.argv[1] if len(sys.argv) > 1 else None)

alone = ic.fetch(plan)
for path, array in jax.tree.leaves_with_path(params):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    assert np.array_equal(np.asarray(array), alone[name])
print(f"{jax.device_count()} devices hold what one process holds, bit for bit")
print(f"logits: {jax.jit(model.apply)(params, tokens).shape}")
