"""A torch model whose initial weights are the same in every process, however it is sharded.

Run it where initserve[torch] is installed: python examples/torch_model.py
"""

import tempfile
from pathlib import Path

import initclient as ic
import initclient.torch as ict
import torch
from torch import nn


class Net(nn.Module):
    """A small image classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 7)
        self.norm = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, 10)


with torch.device("meta"):
    model = Net()  # no memory, no values

plan = ict.plan(
    model,
    seed=7,
    rules=[
        ict.rule("*.bias", ic.zeros),
        ict.rule("fc.weight", ic.kaiming_normal),
        ict.rule(nn.Conv2d, ic.kaiming_normal, mode="fan_out", nonlinearity="relu"),
        ict.rule(nn.BatchNorm2d, ic.ones),
    ],
)
ict.init_(model, plan, device="cpu")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "net.yaml")
    ic.dump_plan(plan, path)  # for the record, or for a server
    weights = ic.fetch(path)
for name, values in model.state_dict().items():
    assert torch.equal(values, torch.from_numpy(weights[name]))
print(f"{len(weights)} tensors of the model equal their plan's, bit for bit")
