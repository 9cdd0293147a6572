#!/bin/sh
# Install the Tinker-API server of the tests (SkyRL on JAX, CPU) into an environment of its own.
# usage: install_tinker_server.sh PYTHON FOLDER   (a Python 3.11+, the environment's folder)
set -eu
base=$1
folder=$2
python=$folder/bin/python
test -x "$python" || "$base" -m venv "$folder"
# Before anything that asks for torch: the default build would bring gigabytes of CUDA.
sh scripts/install_torch.sh "$python"
pip="$python -m pip --disable-pip-version-check -q install -c constraints.txt -c constraints-tinker.txt"
$pip accelerate aiohttp aiosqlite cloudpathlib datasets fastapi flax greenlet jax numpy optax orjson peft \
  psutil rich safetensors sqlalchemy sqlmodel tinker tokenizers transformers uvicorn xxhash zstandard
# It declares Python 3.12; tests/tinker/server_main.py makes up the difference.
$pip --no-deps --ignore-requires-python skyrl
# The client is tested at the newest version that the server still understands, too.
$python -m pip --disable-pip-version-check -q install --no-deps --upgrade --target "$folder/newer-client" tinker==0.36.0
