"""The worker on Modal: a front that is always there and costs little, and a GPU that sleeps when not needed.

`stt-failover-worker deploy` deploys it, as `modal deploy -m modal_whisper.app` does. Everything that can be
chosen is in `deployment`; what happens in the containers is in `front` and `gpu`.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import modal

from modal_whisper.deployment import (
    CUBLAS,
    KEY,
    LIBRARY_PATH,
    MODELS,
    PACKAGES,
    PYTHON,
    Deployment,
    SettingError,
    fetch_command,
)
from modal_whisper.gpu import Calls, Station
from modal_whisper.model import Passage, Priority, Transcript  # noqa: TC001 - Modal evaluates annotations

_PORT = 10301
_FRONT_THREADS = 4
"""A container sees all cores of its host; more threads than this gain a small model nothing."""
_LOG_FORMAT = "%(levelname)s %(message)s"
_GPU_INPUTS = 32
"""The model takes one passage after another, the most urgent first: it can choose among so many."""
_FRONT_INPUTS = 100
_FRONT_SOCKETS = 90
"""What is left of the inputs is for /health and /warm."""

deployment = Deployment.from_environment(os.environ)
app = modal.App(deployment.app, include_source=False)  # the images have it

_packages = modal.Image.debian_slim(python_version=PYTHON).uv_pip_install(*PACKAGES)


def _finished(image: modal.Image, model: str) -> modal.Image:
    """What changes least comes first, so that little is built anew."""
    weights = image.run_commands(fetch_command(model))
    return weights.env(deployment.environment).add_local_python_source("modal_whisper")


front_image = _finished(_packages, deployment.front_model)
gpu_image = _finished(
    _packages.uv_pip_install(CUBLAS).env({"LD_LIBRARY_PATH": LIBRARY_PATH}), deployment.model
)


@app.cls(
    image=gpu_image,
    gpu=list(deployment.gpu),
    cpu=2.0,
    memory=4096,
    region=list(deployment.region) or None,
    min_containers=0,
    max_containers=deployment.max_containers,
    scaledown_window=deployment.idle_seconds,
    timeout=120,
    startup_timeout=120,
    enable_memory_snapshot=deployment.snapshot,
)
# All methods are async: of a sync one, a single cancelled input would end the whole container.
@modal.concurrent(max_inputs=_GPU_INPUTS)
class Gpu:
    """The model on the GPU."""

    @modal.enter(snap=deployment.snapshot)
    def prepare(self) -> None:
        """Import what takes time; there is no GPU yet, so nothing may ask for one."""
        import ctranslate2  # noqa: F401, PLC0415 - not needed where this is deployed from
        import faster_whisper  # noqa: F401, PLC0415 - likewise

    @modal.enter()
    async def start(self) -> None:
        """Load the model."""
        from modal_whisper.runner import ModelRunner  # noqa: PLC0415 - needed on the GPU only
        from modal_whisper.transcriber import WhisperTranscriber  # noqa: PLC0415 - likewise

        logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
        transcriber = WhisperTranscriber(deployment.model, directory=Path(MODELS), device="cuda")
        self._station = Station(ModelRunner(transcriber))
        await self._station.start()

    @modal.method()
    async def warm(self) -> None:
        """Nothing: whoever is answered knows that the GPU is awake."""

    @modal.method()
    async def transcribe(self, ticket: str, passage: Passage, priority: Priority) -> Transcript:
        """See Station."""
        return await self._station.transcribe(ticket, passage, priority)

    @modal.method()
    async def drop(self, ticket: str) -> None:
        """See Station."""
        await self._station.drop(ticket)

    @modal.exit()
    async def stop(self) -> None:
        """Let the model go."""
        await self._station.close()


@app.function(
    image=front_image,
    secrets=[modal.Secret.from_name(deployment.secret, required_keys=[KEY])],
    cpu=0.25,
    memory=1024,
    region=list(deployment.region) or None,
    min_containers=1,
    max_containers=1,
    timeout=3600,
    startup_timeout=120,
)
@modal.concurrent(max_inputs=_FRONT_INPUTS)
@modal.web_server(_PORT, startup_timeout=60, label=deployment.app, requires_proxy_auth=deployment.proxy_auth)
def front() -> None:
    """The service; audio is taken in here, and goes to the GPU in one call a passage."""
    from modal_whisper.background import serve  # noqa: PLC0415 - needed in the front only
    from modal_whisper.conversation import Limits  # noqa: PLC0415 - likewise
    from modal_whisper.front import GpuFirst  # noqa: PLC0415 - likewise
    from modal_whisper.runner import ModelRunner  # noqa: PLC0415 - likewise
    from modal_whisper.transcriber import WhisperTranscriber  # noqa: PLC0415 - likewise

    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    if not os.environ.get(KEY):
        raise SettingError(f"the secret {deployment.secret} holds no {KEY}: anybody could use this worker")

    def make_model() -> GpuFirst:
        small = WhisperTranscriber(
            deployment.front_model, directory=Path(MODELS), device="cpu", threads=_FRONT_THREADS
        )
        spare = ModelRunner(small)
        spare.start_loading()  # but not the GPU: it would be paid for at every start of the front
        return GpuFirst(Calls(Gpu()), spare, name=deployment.model, idle_s=deployment.idle_seconds)

    # On all addresses: Modal's proxy comes in by the network interface.
    serve(
        make_model,
        host="0.0.0.0",  # noqa: S104
        port=_PORT,
        api_key=os.environ[KEY],
        limits=Limits(max_connections=_FRONT_SOCKETS),
    )
