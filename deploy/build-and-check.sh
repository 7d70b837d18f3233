#!/bin/sh
# Builds the image with buildah (no daemon), starts it as the pod of overlays/plaintext would be
# started, and compares the bits that it serves with those computed in process. Writes what the
# image is made of and how it was built to build/image: sbom.cdx.json and provenance.json.
#
#   apt-get install buildah runc debootstrap   # and kubectl, Python with PyYAML, cyclonedx-python-lib
#   deploy/build-and-check.sh                # on python:3.13-slim
#   deploy/build-and-check.sh --local-base --wheels
#
#   --base IMAGE    the base image, with Python 3.13 and venv
#   --local-base    make one from Debian's packages, where no registry is reached (debootstrap);
#                   it stays, as localhost/initserver-base, for the next time
#   --wheels        fetch the wheels first, with pip here, and build without a network
#   --tag IMAGE     the name of the image (localhost/initserver:cpu)
#   --push IMAGE    when all has held, push it there, and print the line for the overlays
#   --keep          leave the working container of the image and the folder of the check
#
# Run it as root, or below `buildah unshare` where user namespaces are allowed. PYTHON names
# the Python of this machine. The exit status is 0 if everything held.
set -eu
cd "$(dirname "$0")/.."

base=docker.io/library/python:3.13-slim-trixie
tag=localhost/initserver:cpu
local_base= wheels= keep= push=
while [ $# -gt 0 ]; do
  case $1 in
    --base) base=$2; shift ;;
    --tag) tag=$2; shift ;;
    --push) push=$2; shift ;;
    --local-base) local_base=1 base=localhost/initserver-base ;;
    --wheels) wheels=1 ;;
    --keep) keep=1 ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift
done
python=${PYTHON:-python3}
plan=examples/small-gpt.yaml
overlay=deploy/overlays/plaintext
lock=deploy/image/requirements
name=initserver-check-$$

work=$(mktemp -d)
container=
clean_up() {
  runc delete --force "$name" 2>/dev/null || true
  if [ -z "$keep" ]; then
    [ -z "$container" ] || buildah rm "$container" >/dev/null
    rm -rf "$work"
  fi
}
trap clean_up EXIT
say() { printf '\n== %s\n' "$1"; }
now() { date +%s.%N; }
since() { echo "$1 $(now)" | awk '{printf "%.1f s", $2 - $1}'; }

# ---- build ------------------------------------------------------------------------------------

if [ -n "$local_base" ] && ! buildah inspect --type image "$base" >/dev/null 2>&1; then
  say "Base image $base, by debootstrap"
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates trixie \
    "$work/debian" >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log"; exit 1; }
  # What Debian's slim images leave out, and what apt-get update brings back.
  (cd "$work/debian"
    rm -rf var/cache/apt/* var/lib/apt/lists/* usr/share/locale/* usr/share/man/*
    find usr/share/doc -type f ! -name copyright -delete)
  container=$(buildah from scratch)
  buildah copy --quiet "$container" "$work/debian" / >/dev/null
  buildah commit --quiet --rm "$container" "$base" >/dev/null
  container=
  rm -rf "$work/debian"
fi

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' core/initcore/_version.py)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# What is built is the folder: with changes, it is no commit's.
[ -z "$(git status --porcelain 2>/dev/null)" ] || revision=$revision-dirty
set -- --build-arg "VERSION=$version" --build-arg "REVISION=$revision"
if [ -n "$wheels" ]; then
  say "Wheels, with the hashes of $lock"
  rm -rf build/wheels
  "$python" -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
    --python-version 3.13 --implementation cp --abi cp313 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    -d build/wheels -r $lock/cpu.txt -r $lock/build.txt
  echo "$(ls build/wheels | wc -l) wheels, $(du -sh build/wheels | cut -f1)"
  set -- "$@" --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/src/build/wheels
fi
pull=
case $base in localhost/*) pull=--pull-never ;; esac
digest_of() { buildah inspect --type image --format '{{.FromImageDigest}}' "$1"; }

say "Build $tag on $base"
start=$(now)
began=$(date -u +%Y-%m-%dT%H:%M:%SZ)
# Docker's format: OCI's has no place for the HEALTHCHECK.
buildah build --isolation chroot --network host --format docker --target cpu \
  --file deploy/Dockerfile --tag "$tag" $pull --build-arg "BASE=$base" "$@" . >"$work/build.log" 2>&1 \
  || { tail -n 40 "$work/build.log"; exit 1; }
size_of() { buildah images --format '{{.Size}}' "$1"; }
echo "built in $(since "$start"): $(size_of "$tag") without compression, the base $(size_of "$base")"

say "What it is made of"
container=$(buildah from --pull-never "$tag")
root=$(buildah mount "$container")
case $base in *@*) pinned=$base ;; *) pinned=$base@$(digest_of "$base") ;; esac
attest() { # the digest of the image's manifest, then the build arguments
  "$python" deploy/image/attest.py --image "${push:-${tag%:*}}" --version "$version" \
    --revision "$revision" --base "$pinned" --began "$began" --root "$root" --out build/image \
    --digest "$@"
}
attest "$(digest_of "$tag")" "$@"

# ---- start it as the pod would be -------------------------------------------------------------

say "Start it with the settings of $overlay"
mkdir "$work/bundle"
buildah inspect --type image "$tag" | "$python" -c \
  'import json, sys; print(json.dumps(json.load(sys.stdin)["OCIv1"]["config"]))' >"$work/image.json"
kubectl kustomize $overlay | "$python" deploy/image/bundle.py --rootfs "$root" \
  --image "$work/image.json" --seccomp /usr/share/containers/seccomp.json --out "$work/bundle"
inside() { runc exec "$name" "$@"; }

start=$(now)
runc run --bundle "$work/bundle" "$name" </dev/null >"$work/log" 2>&1 &
server=$!
until grep -q ' listening at ' "$work/log"; do
  sleep 0.1
  kill -0 "$server" 2>/dev/null || { cat "$work/log"; exit 1; }
done
echo "ready after $(since "$start")"
inside python /opt/initserve/healthcheck.py && echo "its health check passes"
inside python - <<'PY'
import os, sys

status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
found = {
    "user and groups": (os.getuid(), os.getgid(), os.getgroups()),
    "capabilities": {name: status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")},
    "no new privileges": status["NoNewPrivs"],
    "seccomp filter": status["Seccomp"],
}
for name, value in found.items():
    print(f"{name}: {value}")
assert os.getuid() and not any(int(one, 16) for one in found["capabilities"].values())
assert (found["no new privileges"], found["seccomp filter"]) == ("1", "2")
for folder in ("/", "/opt/initserve", "/etc", "/var/tmp"):
    try:
        open(os.path.join(folder, "x"), "w")
    except OSError as error:
        print(f"writing to {folder}: {error.strerror}")
    else:
        sys.exit(f"{folder} can be written")
PY
inside python -c 'from initcore.backends import load; print("native target:", load("native").target)'
# On a read-only root, a module whose bytecode is stale is compiled at every start.
inside python -v /opt/initserve/bin/initserver --help >"$work/imports" 2>&1
grep -q "code object from '/opt/initserve/.*\.pyc'" "$work/imports"
if grep 'bytecode is stale' "$work/imports"; then exit 1; fi
echo "its bytecode is up to date"

# ---- fetch and compare ------------------------------------------------------------------------

say "The same plan from the server and in process"
inside python -c 'import sys; open("/tmp/plan.yaml", "w").write(sys.stdin.read())' <$plan
inside initclient fetch /tmp/plan.yaml --target 127.0.0.1:50051 --out /tmp/served.safetensors
inside initclient fetch /tmp/plan.yaml --target local --backend numpy --out /tmp/local.safetensors
inside python - <<'PY'
import hashlib

served, local = (
    hashlib.sha256(open(f"/tmp/{one}.safetensors", "rb").read()).hexdigest()
    for one in ("served", "local")
)
print(f"SHA-256, served      {served}\nSHA-256, in process  {local}")
assert served == local, "the bits differ"
print("equal: yes")
PY

say "Stop it"
start=$(now)
runc kill "$name" TERM
wait "$server"
echo "ended after $(since "$start"): $(tail -n 1 "$work/log")"
grep -q '"initserver: stopped"' "$work/log"

if [ -n "$push" ]; then
  say "Push"
  buildah push --digestfile "$work/digest" "$tag" "docker://$push"
  # The registry's digest is the one that is signed and deployed.
  attest "$(cat "$work/digest")" "$@"
  printf '    digest: %s\n' "$(cat "$work/digest")"
fi
