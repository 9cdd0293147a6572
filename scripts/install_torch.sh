#!/bin/sh
# Install the pinned torch: the CPU build where there is no GPU, what the index offers elsewhere.
# TORCH_INDEX names another package index to take it from.
set -eu
python=$1
version=$(sed -n 's/^torch==//p' constraints.txt)
"$python" -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$version')" 2>/dev/null && exit 0
pip="$python -m pip --disable-pip-version-check -q install"
if [ -n "${TORCH_INDEX:-}" ]; then
  exec $pip "torch==$version" --extra-index-url "$TORCH_INDEX"
fi
if command -v nvidia-smi >/dev/null 2>&1 || [ "$(uname -s)" != Linux ]; then
  exec $pip "torch==$version"
fi
# On Linux without a GPU prefer a CPU build that is already at hand (a wheel folder of pip's).
$pip "torch==$version+cpu" 2>/dev/null && exit 0
echo "torch: taking the default build; TORCH_INDEX=<the CPU wheel index of PyTorch> makes it ten times smaller" >&2
exec $pip "torch==$version"
