#!/bin/sh
# Pins what goes into the images, with hashes, for the Python and the platform of the base image.
# Needs uv (pip install uv) and a package index. Run it from anywhere to take newer releases up.
set -eu
cd "$(dirname "$0")/../.."

pin() { # the file to write, then what it is for
  file=deploy/image/requirements/$1.txt
  shift
  { echo "# Made by deploy/image/lock.sh; see there."
    uv pip compile "$@" --upgrade --generate-hashes --no-annotate --no-header --quiet \
      --no-emit-index-url --no-emit-find-links \
      --python-version 3.13 --python-platform x86_64-manylinux_2_28; } > "$file.new"
  mv "$file.new" "$file"
}

pin cpu pyproject.toml --extra server --extra hub --extra otel
pin cuda pyproject.toml --extra server --extra hub --extra otel --extra cuda12
# The compiler of the native library, the one that wheels are built with (ZIGLANG in the Makefile).
printf 'hatchling>=1.26\nziglang==0.17.1\n' | pin build -
