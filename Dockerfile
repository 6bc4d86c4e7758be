# The server in a container. `docker build .` makes it with the local model in it, `docker build --target slim .` without the
# local model and its packages. Both run as a user without rights, on a root file system that may be read-only: only /data is written.

FROM debian:trixie-slim AS base
# Not pinned: Debian keeps one version of a package in a release, and the next security fix would break the build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 tzdata \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python3 -m venv /build
COPY pyproject.toml README.md LICENSE ./
COPY modal_whisper modal_whisper
COPY wyoming_server wyoming_server
# Wheels alone: an architecture for which there is none shall stop the build, not start a compiler.
RUN /build/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && python3 -m venv --without-pip /opt/stt-failover

FROM build AS build-slim
RUN /build/bin/pip --python /opt/stt-failover install --no-cache-dir --only-binary=:all: \
        "stt-failover[server] @ file://$(ls /wheels/*.whl)"

FROM build AS build-full
RUN /build/bin/pip --python /opt/stt-failover install --no-cache-dir --only-binary=:all: \
        "stt-failover[server,worker] @ file://$(ls /wheels/*.whl)"

FROM build-full AS model
# With the Python that has pip: that is one of the ways to the model's files. Whichever it was, their digests are checked.
RUN PYTHONPATH="$(echo /opt/stt-failover/lib/python3*/site-packages)" /build/bin/python -c "from pathlib import Path; from modal_whisper import weights; \
print(weights.find_model(weights.DEFAULT_MODEL, Path('/fetched')), weights.REVISION)" >/tmp/found \
    && read -r folder revision </tmp/found \
    # As a cache of the model hub is laid out; the server looks there before it fetches anything.
    && target="/opt/models/models--Systran--faster-whisper-base/snapshots/$revision" \
    && mkdir -p "$target" \
    && cp -L "$folder"/model.bin "$folder"/config.json "$folder"/tokenizer.json "$folder"/vocabulary.txt "$target" \
    # The same bytes make the same layer, so that an update need not bring the model again.
    && find /opt/models -exec touch -h -d @0 {} +

FROM base AS runtime
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin stt-failover \
    && install -d -o stt-failover -g stt-failover -m 0750 /data
ENV PATH=/opt/stt-failover/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/data \
    SETTINGS_FILE=/data/settings.json \
    MODEL_DIR=/data/models \
    API_HOST=0.0.0.0 \
    API_PORT=10380
VOLUME /data
EXPOSE 10300 10380
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["stt-failover"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["python", "-c", "import os, urllib.request; \
urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['API_PORT']}/health\", timeout=8)"]
ARG BUILD_VERSION
ARG BUILD_REVISION
LABEL org.opencontainers.image.title="stt-failover" \
      org.opencontainers.image.description="A Wyoming speech-to-text server that always answers" \
      org.opencontainers.image.source="https://github.com/stt-failover/stt-failover" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-SA-3.0" \
      org.opencontainers.image.version="${BUILD_VERSION}" \
      org.opencontainers.image.revision="${BUILD_REVISION}"

FROM runtime AS slim
# The packages of the local model are not here, so that nobody can switch it on.
ENV LOCAL_ENABLED=false
COPY --from=build-slim /opt/stt-failover /opt/stt-failover

FROM runtime AS full
ENV HF_HUB_CACHE=/opt/models
COPY --from=model /opt/models /opt/models
COPY --from=build-full /opt/stt-failover /opt/stt-failover
