"""Small models of many kinds, which draw their weights in as many ways."""

from __future__ import annotations

from collections.abc import Callable

import transformers as tf
from torch import nn

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
TOKENS = {"vocab_size": 200, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {"num_key_value_heads": 2}
SIDES = {
    f"{side}_{name}": size
    for side in ("encoder", "decoder")
    for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 96))
}

TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**GROUPED, **SIZES, **TOKENS)),
    "gpt2": lambda: tf.GPT2LMHeadModel(
        tf.GPT2Config(n_layer=2, n_embd=64, n_head=2, n_positions=32, **TOKENS)
    ),
    "bert": lambda: tf.BertForMaskedLM(tf.BertConfig(**SIZES, **TOKENS)),
    "vit": lambda: tf.ViTForImageClassification(tf.ViTConfig(image_size=32, patch_size=8, **SIZES)),
    "resnet": lambda: tf.ResNetForImageClassification(
        tf.ResNetConfig(layer_type="basic", embedding_size=16, hidden_sizes=[32, 48], depths=[1, 1])
    ),
    "convnext": lambda: tf.ConvNextForImageClassification(
        tf.ConvNextConfig(num_stages=2, hidden_sizes=[16, 32], depths=[1, 1])
    ),
    "mixtral": lambda: tf.MixtralForCausalLM(
        tf.MixtralConfig(num_local_experts=4, **GROUPED, **SIZES, **TOKENS)
    ),
    "t5": lambda: tf.T5ForConditionalGeneration(
        tf.T5Config(d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4, vocab_size=200)
    ),
    "whisper": lambda: tf.WhisperForConditionalGeneration(
        tf.WhisperConfig(
            d_model=64,
            num_mel_bins=16,
            decoder_start_token_id=1,
            max_source_positions=20,
            max_target_positions=20,
            **SIDES,
            **TOKENS,
        )
    ),
    "mamba": lambda: tf.MambaForCausalLM(
        tf.MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=8, vocab_size=200)
    ),
    "mamba2": lambda: tf.Mamba2ForCausalLM(
        tf.Mamba2Config(
            hidden_size=32,
            num_hidden_layers=2,
            state_size=8,
            num_heads=8,
            head_dim=8,
            n_groups=2,
            vocab_size=200,
        )
    ),
    "falcon_mamba": lambda: tf.FalconMambaForCausalLM(
        tf.FalconMambaConfig(hidden_size=32, num_hidden_layers=2, state_size=8, vocab_size=200)
    ),
    "jamba": lambda: tf.JambaForCausalLM(
        tf.JambaConfig(
            attn_layer_period=2,
            attn_layer_offset=1,
            num_experts=4,
            mamba_d_state=8,
            mamba_dt_rank=4,
            **GROUPED,
            **SIZES,
            **TOKENS,
        )
    ),
    "qwen3_next": lambda: tf.Qwen3NextForCausalLM(
        tf.Qwen3NextConfig(
            head_dim=16,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            **GROUPED,
            **{**SIZES, "num_hidden_layers": 4},
            **TOKENS,
        )
    ),
    "qwen3": lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(head_dim=16, **GROUPED, **SIZES, **TOKENS)),
    "wav2vec2": lambda: tf.Wav2Vec2Model(
        tf.Wav2Vec2Config(
            conv_dim=[32, 32],
            conv_stride=[5, 2],
            conv_kernel=[10, 3],
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            **SIZES,
        )
    ),
    "beit": lambda: tf.BeitForImageClassification(
        tf.BeitConfig(image_size=32, patch_size=8, **SIZES)
    ),
    "swin": lambda: tf.SwinForImageClassification(
        tf.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2])
    ),
}
"""Models of transformers, by their types."""

MODULES: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(8, 4),
    "Bilinear": lambda: nn.Bilinear(3, 4, 5),
    "Conv1d": lambda: nn.Conv1d(4, 8, 3, groups=2),
    "Conv2d": lambda: nn.Conv2d(4, 8, 3, bias=False),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(4, 8, 2),
    "Embedding": lambda: nn.Embedding(20, 8, padding_idx=2),
    "EmbeddingBag": lambda: nn.EmbeddingBag(20, 8),
    "LSTM": lambda: nn.LSTM(4, 8, 2, bidirectional=True, proj_size=3),
    "GRUCell": lambda: nn.GRUCell(4, 8),
    "BatchNorm2d": lambda: nn.BatchNorm2d(8),
    "GroupNorm": lambda: nn.GroupNorm(2, 8),
    "RMSNorm": lambda: nn.RMSNorm(8),
    "PReLU": lambda: nn.PReLU(3, init=0.3),
    "MultiheadAttention": lambda: nn.MultiheadAttention(8, 2, kdim=6, vdim=5, add_bias_kv=True),
    "Transformer": lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 10], 2.0),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(
        nn.Linear(6, 6), use_trivialization=False
    ),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)),
}
"""Modules of torch.nn and its parametrizations."""
