"""Model folders: a plan with the files that belong to it, as servers and `mount` read them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from initclient._files import replacing

PLAN_FILE = "plan.yaml"
"""The name of the plan in a model folder."""

CONFIG_FILE = "config.json"
"""The name of the model's configuration."""

# What libraries read beside the configuration, by the names that transformers gives.
_BESIDE = re.compile(
    r"(generation_config|preprocessor_config|video_preprocessor_config|processor_config"
    r"|special_tokens_map|added_tokens|vocab|chat_template)\.json"
    r"|tokenizer(_config)?\.json|(tokenizer|spiece|sentencepiece(\.bpe)?)\.model"
    r"|vocab\.txt|merges\.txt|chat_template\.jinja|[A-Za-z0-9._-]+\.tiktoken"
)
_CODE = re.compile(r"[A-Za-z0-9_]+\.py")

WEIGHTS = re.compile(r".*\.(safetensors|safetensors\.index\.json)")
"""Names of files of weights: a model folder has a plan in their place."""


def files_of_model(folder: Path, *, code: bool = False) -> dict[str, Path]:
    """The files of a model that belong into its folder beside the plan, by their names.

    Args:
        folder: where the configuration is.
        code: also Python files.

    Raises:
        OSError: if the folder cannot be read.
    """
    return {
        name: folder / name
        for name in sorted(os.listdir(folder))
        if (name == CONFIG_FILE or _BESIDE.fullmatch(name) or (code and _CODE.fullmatch(name)))
        and (folder / name).is_file()
    }


def write_model_folder(folder: Path, plan: bytes, beside: Mapping[str, Path]) -> list[str]:
    """Writes a model folder: all of it, or nothing.

    A new folder gets its name when it is complete. In a folder that exists, files of the same
    contents stay, and the plan comes last: without one it is no model folder.

    Args:
        folder: the folder; made if its parent exists.
        plan: the plan file.
        beside: the other files, by the names that they get.

    Returns:
        The names of the files that were written.

    Raises:
        FileExistsError: if a file of another content has one of the names, or the folder holds
            weights; nothing is written then.
        OSError: if a file cannot be read or written; nothing that was written is left.
    """
    # Through a link, the folder that it leads to.
    folder = Path(os.path.realpath(folder))
    contents = {name: path.read_bytes() for name, path in beside.items()} | {PLAN_FILE: plan}
    if folder.is_dir():
        return _add(folder, contents, folder)
    if folder.exists():
        raise NotADirectoryError(f"{folder} is a file; give the name of a folder")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"the folder {folder.parent} of {folder} does not exist")
    part = folder.parent / f".{folder.name[:50]}.{secrets.token_hex(8)}.part"
    part.mkdir()
    try:
        written = _add(part, contents, folder)
        # A folder that came meanwhile is an error, if it holds files.
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return written


def _add(folder: Path, contents: Mapping[str, bytes], final: Path) -> list[str]:
    """Writes those files that a folder lacks; returns their names.

    Args:
        folder: the folder.
        contents: the files by name.
        final: the name that the folder gets, for errors.
    """
    for name in sorted(os.listdir(folder)):
        if WEIGHTS.fullmatch(name):
            raise FileExistsError(
                f"{final} holds the weights {name}, and a model folder has a plan in their place; "
                "give another folder, or the name of a plan file"
            )
    missing = []
    for name, content in contents.items():
        path = folder / name
        if not os.path.lexists(path):
            missing.append(name)
        elif not path.is_file() or path.read_bytes() != content:
            kind = "another plan" if name == PLAN_FILE else "another content"
            raise FileExistsError(
                f"{path} is there with {kind}; remove it, or give another folder: nothing is "
                "written"
            )
    done: list[str] = []
    try:
        for name in missing:
            with replacing(folder / name) as file:
                file.write(contents[name])
            done.append(name)
    except BaseException as error:
        for made in done:
            with suppress(OSError):
                (folder / made).unlink()
        if isinstance(error, OSError) and error.errno and error.filename == str(folder / name):
            raise OSError(error.errno, error.strerror, str(final / name)) from error
        raise
    return done
