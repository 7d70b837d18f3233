"""A Llama from its configuration alone: nothing is downloaded, and no weight is drawn twice.

Run it where initserve[torch] and transformers are installed:

    python examples/hugging_face_llama.py
"""

import initclient.torch as ict
import torch
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(
    vocab_size=1000,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=True,
    pad_token_id=0,
)
recording = ict.record(LlamaForCausalLM, config)  # its constructor, on meta: no memory, no values
print(recording.explain("model.layers.0.mlp.up_proj.weight"))

plan = recording.plan(seed=7)
assert plan["model.layers.0.mlp.up_proj.weight"].std == config.initializer_range
model = recording.model
report = ict.init_(model, plan, device="cpu")
assert model.lm_head.weight is model.model.embed_tokens.weight

# The rotary frequencies are in no state dict, and to_empty() would leave them as garbage: init_
# lets the model's own code compute them.
assert "model.rotary_emb.inv_freq" in report.computed
expected = LlamaForCausalLM(config).model.rotary_emb.inv_freq
assert torch.equal(model.model.rotary_emb.inv_freq, expected)

tokens = torch.tensor([[1, 2, 3]])
assert model(tokens).logits.isfinite().all()
print(f"\n{len(report.filled)} tensors filled, {len(report.computed)} buffers computed")
