# The environment of this project, and a copy of its sources; docs/container.md says how it is used.
#   docker build -t tokenworlds .                                    torch with CUDA, which runs on CPUs, too
#   docker build -t tokenworlds --build-arg TORCH_INDEX=ADDRESS .    torch for CPUs (some GB less), from PyTorch's index of CPU builds
# CUDA's libraries are in torch's wheels, so both have the same base, whose Python is 3.11; the host needs NVIDIA's driver alone.
FROM debian:bookworm-slim

# EGL draws DeepMind Control on a GPU, OSMesa without one. Debian keeps the newest version of a package alone: a pinned one could soon
# not be installed.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates git libegl1 libosmesa6 make python3.11 python3.11-venv \
 && rm -rf /var/lib/apt/lists/*

# The Makefile uses the environment that $VENV names as it is, and installs nothing into it.
ENV VENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# The newest layers are the cheapest: torch, then what pyproject.toml asks for, then the sources.
ARG TORCH_INDEX=
RUN python3.11 -m venv "$VENV" \
 && pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.13.0

WORKDIR /project
ARG EXTRAS=cluster,crafter,dmc,examples,hub,minari,pretrained
COPY pyproject.toml constraints.txt ./
RUN mkdir -p src/tokenworlds && touch README.md src/tokenworlds/__init__.py \
 && pip install -c constraints.txt -e ".[$EXTRAS]"

# For any user (docker run --user "$(id -u):$(id -g)"), who has no entry in /etc/passwd: a home, a name, and sources to write beside.
# Results belong to that user. Git trusts a mounted checkout, whoever it belongs to.
ENV HOME=/home/tokenworlds USER=tokenworlds \
    DO_NOT_TRACK=true DVC_NO_ANALYTICS=true MLFLOW_DISABLE_TELEMETRY=true \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility
COPY . .
RUN useradd --create-home --uid 1000 tokenworlds \
 && mkdir -m 1777 /scratch && chmod -R a+rwX . "$HOME" \
 && git config --system --add safe.directory /project
USER 1000:1000

CMD ["make", "doctor"]
