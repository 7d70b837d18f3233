"""torchtitan: a plan in the place of a seed checkpoint, between the Trainer and its train loop.

Run it where initserve[torch] and torchtitan are installed, with torchtitan's own arguments:

    torchrun --nproc-per-node 2 examples/launchers/torchtitan_llama3.py \\
        --module llama3 --config llama3_debugmodel --parallelism.tensor_parallel_degree 2
"""

import initclient.torch as ict
from torchtitan.config import ConfigManager
from torchtitan.tools.logging import init_logger

init_logger()
config = ConfigManager().parse_args()
trainer = config.build()


def make():  # yours: as torchtitan's Trainer builds a model
    model = config.model_spec.model.build()  # yours
    model.init_weights()  # yours
    return model  # yours


plan = ict.record(make).plan(seed=7)  # yours: what param_init of the configuration draws
for model in trainer.model_parts:
    ict.init_(model, plan, partial=len(plan) > len(model.state_dict()))  # yours: a stage has some
    ict.verify(model, plan, partial=True)
trainer.train()  # loads a checkpoint of a later step, if there is one
trainer.close()
