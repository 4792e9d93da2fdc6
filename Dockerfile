# The edge server on an NVIDIA GPU (docs/two_machines.md):
#   docker build -t vitmalis-server .
#   docker run --gpus all -p 5555:5555 -v "$PWD/keys/server:/keys/server:ro" -v vitmalis-cache:/var/lib/vitmalis vitmalis-server
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

# PyTorch's wheels bring CUDA's libraries. Triton compiles the launchers of the fused engine's kernels at run time, which
# needs gcc and Python's headers.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# The user id is fixed, so that the keys, which no other user may read, can be given to it.
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/vitmalis vitmalis \
    && python3 -m venv /opt/venv
WORKDIR /opt/vitmalis
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
COPY conf conf
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[server]'

USER 10001
WORKDIR /var/lib/vitmalis
ENV VITMALIS_CACHE=/var/lib/vitmalis/cache PYTHONUNBUFFERED=1
EXPOSE 5555
# The model is loaded, and at first downloaded, before the server answers.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10m \
    CMD ["/opt/venv/bin/python", "-m", "vitmalis.server.health", "tcp://127.0.0.1:5555"]
ENTRYPOINT ["/opt/venv/bin/python", "-m", "vitmalis.server"]
CMD ["--address", "tcp://*:5555", "--keys", "/keys/server", "--model", "vitdet_l", "--device", "cuda:0", "--precision", "bf16"]
