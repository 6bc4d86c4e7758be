from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from modal_whisper import samples
from tests import processes
from tests.emulators.assemblyai import AssemblyAIEmulator, script_for
from tests.end_to_end.clips import MUTED, PASSWORD, error_rate, words
from tests.end_to_end.house import running_house
from tests.end_to_end.speaker import PATIENCE, Speaker
from tests.end_to_end.stage import GOOD_KEY, PATIENT, WORST_ERROR_RATE, WRONG_KEY, settings_for
from tests.end_to_end.worker import WORKER_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.end_to_end.clips import Clip
    from tests.processes import Process

ENVIRONMENT = {name: str(value) for name, value in PATIENT.items()}


async def test_the_commands_of_server_and_worker_answer_behind_a_wrong_key(
    directly: Callable[[Clip], str],
) -> None:
    worker = processes.worker(WHISPER_API_KEY=WORKER_KEY)
    async with AssemblyAIEmulator() as assemblyai, processes.on_thread(worker) as worker_process:
        server = processes.server(
            **ENVIRONMENT,
            ASSEMBLYAI_API_KEY=WRONG_KEY,
            ASSEMBLYAI_STREAMING_URL=assemblyai.url,
            WHISPER_SERVICE_URL=f"ws://127.0.0.1:{worker_process.port}",
            WHISPER_API_KEY=WORKER_KEY,
            LOCAL_ENABLED="false",
        )
        async with processes.on_thread(server) as server_process, Speaker(server_process.uri) as speaker:
            await speaker.say(MUTED)
            assert await asyncio.to_thread(server_process.stop) == 0
            answer = await speaker.only_answer()
        assert await asyncio.to_thread(worker_process.stop) == 0

    assert (answer.error, answer.backend, answer.text) == (None, "whisper", directly(MUTED))
    assert error_rate(MUTED.text, answer.text) <= WORST_ERROR_RATE
    log = server_process.log
    assert re.search(
        r"assemblyai failed: sign-in refused \(1008\); whisper takes over with \d\.\d\d s of", log
    )
    assert re.search(r"connected to whisper \(\d+ ms\)", log)
    assert re.search(r"whisper answered \d+ ms after the last sample", log)
    for text in (log, worker_process.log):
        assert not [key for key in (WRONG_KEY, WORKER_KEY) if key in text]
        assert not {"conference", "muted"} & set(words(text))


async def test_the_self_check_understands_a_person_without_account_and_key() -> None:
    async with processes.on_thread(processes.server(**ENVIRONMENT, SELF_CHECK="true")) as server:
        await _printed(server, r"answered by .*\n")
        assert await asyncio.to_thread(server.stop) == 0

    lines = re.fullmatch(
        r'understood: "(.+)" \(said: "(.+)"\)\nanswered by local, \d+ ms .*\n', server.output
    )
    assert lines
    assert lines[2] == PASSWORD.text
    assert error_rate(PASSWORD.text, lines[1]) <= WORST_ERROR_RATE
    assert re.search(r"local answered \d+ ms after the last sample", server.log)
    assert "Traceback" not in server.log
    assert not {"valid", "password", "please", "again"} & set(words(server.log))


async def test_transcribe_shows_words_as_they_come_then_who_answered_and_when() -> None:
    script = script_for(PASSWORD.pcm, PASSWORD.text)
    async with (
        AssemblyAIEmulator({GOOD_KEY}, script=script) as assemblyai,
        running_house(settings_for(assemblyai)) as house,
    ):
        client = await asyncio.create_subprocess_exec(
            *(processes.SERVER, "transcribe", samples.PASSWORD.path, "--language", "en"),
            *("--uri", house.uri),
            env=processes.environment({}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        assert client.stdout
        async with asyncio.timeout(PATIENCE):
            first = (await client.stdout.readline()).decode()
            sent_by_then = assemblyai.sessions[0].audio_bytes
            rest = (await client.stdout.read()).decode()
            assert await client.wait() == 0

    assert sent_by_then < len(PASSWORD.pcm)
    *partials, text, who = (first + rest).splitlines()
    assert len(set(partials)) > 1
    assert all(PASSWORD.text.startswith(partial.removeprefix("… ")) for partial in partials)
    assert text == PASSWORD.text
    assert re.fullmatch(r"answered by assemblyai, \d+ ms after the last sample", who)


async def _printed(process: Process, pattern: str) -> None:
    def wait() -> None:
        process._wait(lambda: bool(re.search(pattern, process.output)), f"did not print {pattern!r}")

    await asyncio.to_thread(wait)
