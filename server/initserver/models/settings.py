"""The settings of one model, from the file `initserve.yaml` in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from initcore.file import parse_shard_size

from initserver.models.blobs import Blob

SETTINGS_FILE = "initserve.yaml"

_MOST_BYTES = 64 << 10

# huggingface_hub takes no file above 50 GB from an endpoint like this one, and downloads eight
# files at a time.
_SHARD_SIZE = "5GB"

_SEEDS = ("fixed", "open")


@dataclass(frozen=True)
class ModelSettings:
    """How a model is served.

    Attributes:
        shard_size: bytes of tensors in one file of the Hub endpoint; a larger model has several
            and an index.
        seeds_are_open: whether callers may ask for another seed: `seed` over gRPC, the revision
            `seed-N` at the Hub endpoint.
    """

    shard_size: int = parse_shard_size(_SHARD_SIZE)
    seeds_are_open: bool = False


def settings_of(blob: Blob) -> ModelSettings:
    """The settings in a file.

    Raises:
        ValueError: if the file is too large, or says something else.
        BlobChangedError: if it has changed since it was hashed.
    """
    if blob.size > _MOST_BYTES:
        raise ValueError(f"{SETTINGS_FILE} has {blob.size} bytes; it may have {_MOST_BYTES}")
    return parse_settings(b"".join(blob.read(0, blob.size)))


def parse_settings(text: bytes) -> ModelSettings:
    """The settings in the text of the file.

    Raises:
        ValueError: with the key, its value and what would be right.
    """
    import yaml

    try:
        form: Any = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = str(error).splitlines()[0] if str(error) else "it cannot be read"
        raise ValueError(f"{SETTINGS_FILE} is no YAML: {line}") from None
    if form is None:
        return ModelSettings()
    if not isinstance(form, dict):
        raise ValueError(f"{SETTINGS_FILE} has no keys; its keys are shard_size and seeds")
    unknown = [str(key) for key in form if key not in ("shard_size", "seeds")]
    if unknown:
        raise ValueError(
            f"{SETTINGS_FILE} has the key {unknown[0][:60]!r}; its keys are shard_size and seeds"
        )
    seeds = form.get("seeds", "fixed")
    if seeds not in _SEEDS:
        raise ValueError(f"seeds is {seeds!r} in {SETTINGS_FILE}; it must be fixed or open")
    try:
        shard_size = parse_shard_size(form.get("shard_size", _SHARD_SIZE))
    except ValueError as error:
        raise ValueError(f"{SETTINGS_FILE}: {error}") from None
    return ModelSettings(shard_size, seeds == "open")
