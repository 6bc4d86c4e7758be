from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from modal_whisper.deploy import Surroundings, main
from modal_whisper.deployment import Deployment
from modal_whisper.endpoint import Limits
from modal_whisper.errors import TranscriptionError
from modal_whisper.modal_cli import DeployError, Ended, run_program
from modal_whisper.samples import PASSWORD
from tests.fakes import PATIENCE
from tests.modal_whisper.fake_modal import KEY, Account, Endpoint, install, load
from tests.modal_whisper.scripted_models import ScriptedModel, ScriptedRemote
from tests.processes import PROJECT, Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SECRET = "stt-failover"
OWN = {KEY: "own-key", "WHISPER_PROXY_KEY": "wk-own", "WHISPER_PROXY_SECRET": "ws-own"}


@dataclass
class Deployed:
    """How a deployment ended."""

    code: int
    settings: dict[str, str]
    """What it printed to paste."""
    told: str
    """What it wrote on the way."""
    slept: list[float] = field(default_factory=list)

    @property
    def complaint(self) -> str:
        """The one line that says what went wrong."""
        (line,) = [line for line in self.told.splitlines() if line.startswith("stt-failover-worker deploy:")]
        return line.removeprefix("stt-failover-worker deploy: ")


class Deploy:
    """Runs the command against an account, and against an endpoint where there is one."""

    def __init__(self, account: Account, capsys: pytest.CaptureFixture[str]) -> None:
        self.account = account
        self._capsys = capsys

    async def __call__(
        self,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        endpoint: Endpoint | None = None,
        limits: Limits | None = None,
        run: Any = None,
    ) -> Deployed:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        surroundings = Surroundings(
            environ=environ or {},
            run=run or self.account,
            sleep=sleep,
            clock=lambda: sum(slept),
            limits=limits or Limits(),
        )
        if endpoint:
            async with endpoint.serve():
                self.account.url = endpoint.url
                code = await asyncio.to_thread(main, arguments, surroundings)
        else:
            code = await asyncio.to_thread(main, arguments, surroundings)
        output = self._capsys.readouterr()
        settings = dict(line.split("=", 1) for line in output.out.splitlines())
        return Deployed(code, settings, output.err, slept)

    def endpoint(self, **options: Any) -> Endpoint:
        """A worker that takes the key in the account's secret."""
        return Endpoint(api_key=lambda: self.account.secrets[SECRET][KEY], **options)


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def deploy(account: Account, capsys: pytest.CaptureFixture[str]) -> Deploy:
    return Deploy(account, capsys)


# All is well


async def test_the_first_deployment_makes_a_key_and_a_token_and_prints_the_settings(
    deploy: Deploy, account: Account
) -> None:
    endpoint = deploy.endpoint()
    deployed = await deploy(endpoint=endpoint)
    assert deployed.code == 0, deployed.told
    assert deployed.settings == {
        "WHISPER_SERVICE_URL": endpoint.url.replace("http://", "ws://"),
        KEY: account.secrets[SECRET][KEY],
        "WHISPER_PROXY_KEY": "wk-made",
        "WHISPER_PROXY_SECRET": "ws-made",
    }
    assert len(deployed.settings[KEY]) >= 32
    assert account.tokens == ["stt-failover"]
    assert account.deployed == [Deployment().environment]
    assert endpoint.paths == ["/health", "/warm", "/ws/stt"]
    assert f'"{PASSWORD.text}"' in deployed.told


async def test_two_first_deployments_have_different_keys(deploy: Deploy, account: Account) -> None:
    first = await deploy(endpoint=deploy.endpoint())
    account.secrets.clear()
    assert (await deploy(endpoint=deploy.endpoint())).settings[KEY] != first.settings[KEY]


async def test_a_later_deployment_keeps_the_key_and_the_token_that_it_is_given(
    deploy: Deploy, account: Account
) -> None:
    account.secrets[SECRET] = {KEY: "own-key"}
    deployed = await deploy(environ=OWN, endpoint=deploy.endpoint(token=("wk-own", "ws-own")))
    assert (deployed.code, account.tokens) == (0, [])
    assert OWN.items() <= deployed.settings.items()
    assert not any(program[:2] == ["secret", "create"] for program in account.programs)


async def test_a_key_of_ones_own_goes_into_a_new_secret(deploy: Deploy, account: Account) -> None:
    deployed = await deploy(environ={KEY: "own-key"}, endpoint=deploy.endpoint())
    assert (deployed.code, account.secrets) == (0, {SECRET: {KEY: "own-key"}})


async def test_a_new_key_replaces_the_old_one(deploy: Deploy, account: Account) -> None:
    account.secrets[SECRET] = {KEY: "forgotten"}
    deployed = await deploy("--new-key", endpoint=deploy.endpoint())
    assert deployed.code == 0
    assert deployed.settings[KEY] == account.secrets[SECRET][KEY] != "forgotten"


async def test_settings_come_from_the_environment(deploy: Deploy, account: Account) -> None:
    choices = {"WHISPER_IDLE_SECONDS": "60", "WHISPER_SECRET": "keys", "WHISPER_APP": "ears"}
    endpoint = Endpoint(api_key=lambda: account.secrets["keys"][KEY])
    assert (await deploy(environ=choices, endpoint=endpoint)).code == 0
    assert choices.items() <= account.deployed[0].items()
    assert account.tokens == ["ears"]
    assert account.programs[-1][-1] == "ears"  # whose address it asked for


async def test_without_proxy_auth_there_is_no_token(deploy: Deploy, account: Account) -> None:
    deployed = await deploy(environ={"WHISPER_PROXY_AUTH": "false"}, endpoint=deploy.endpoint(token=None))
    assert (deployed.code, account.tokens) == (0, [])
    assert set(deployed.settings) == {"WHISPER_SERVICE_URL", KEY}


async def test_an_https_address_becomes_a_wss_setting(deploy: Deploy, account: Account) -> None:
    account.url = "https://home--stt-failover.modal.invalid/"
    deployed = await deploy(limits=Limits(healthy=0.0, answer=0.0))
    assert deployed.settings["WHISPER_SERVICE_URL"] == "wss://home--stt-failover.modal.invalid"


async def test_it_waits_until_the_new_worker_is_there(deploy: Deploy) -> None:
    before = [
        (503, {"error": "it loads"}),
        (401, {}),
        (200, {"model": "the one before"}),
        (404, {}),
    ]
    deployed = await deploy(endpoint=deploy.endpoint(before=before))
    assert (deployed.code, deployed.slept) == (0, [2.0] * 4)


async def test_an_old_container_with_the_old_key_is_outwaited(deploy: Deploy) -> None:
    before = [(200, {"model": "medium"}), (401, {"error": "the key is wrong"}), (401, {})]
    deployed = await deploy(endpoint=deploy.endpoint(before=before))
    assert (deployed.code, deployed.slept) == (0, [2.0] * 2)


async def test_without_a_gpu_the_front_answers_and_the_user_is_told(deploy: Deploy) -> None:
    remote = ScriptedRemote(errors=(RuntimeError("no GPU left"),) * 9)
    spare = ScriptedModel(work=0.0, text=PASSWORD.text)
    deployed = await deploy(endpoint=deploy.endpoint(remote=remote, spare=spare))
    assert deployed.code == 0
    assert "the GPU is not there yet (cold); until it is, base answers" in deployed.told


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    names = [variable for variable, *_ in Deployment.explained()]
    assert [name for name in [*names, *OWN, "--new-key"] if name not in text] == []


# Before anything is deployed


@pytest.mark.parametrize(
    ("change", "next_step"),
    [
        ({"version": ""}, 'pip install "stt-failover[modal]", or ".[modal]" in a copy of the project'),
        ({"version": "1.5.4"}, 'pip install "stt-failover[modal]", or ".[modal]" in a copy of the project'),
        ({"signed_in": False}, "-m modal setup"),
        ({"secrets": {SECRET: {KEY: "forgotten"}}}, "--new-key"),
    ],
)
async def test_what_is_missing_is_said_before_anything_is_deployed(
    deploy: Deploy, account: Account, change: dict[str, Any], next_step: str
) -> None:
    for name, value in change.items():
        setattr(account, name, value)
    deployed = await deploy()
    assert (deployed.code, deployed.settings, account.deployed) == (1, {}, [])
    assert next_step in deployed.complaint


async def test_the_reason_that_modal_gives_is_passed_on(deploy: Deploy, account: Account) -> None:
    account.signed_in = False
    assert "Token missing" in (await deploy()).complaint


@pytest.mark.parametrize(
    ("environ", "arguments", "complaint"),
    [
        ({"WHISPER_IDLE_SECONDS": "1"}, (), "WHISPER_IDLE_SECONDS takes"),
        ({KEY: "two words"}, (), f"{KEY} takes a key"),
        ({"WHISPER_PROXY_KEY": "wk-own"}, (), "belong together"),
        ({"WHISPER_PROXY_SECRET": "ws-own"}, (), "belong together"),
        ({KEY: "own-key"}, ("--new-key",), "unset WHISPER_API_KEY"),
    ],
)
async def test_wrong_use_is_said_before_modal_is_asked_anything(
    deploy: Deploy,
    account: Account,
    environ: dict[str, str],
    arguments: tuple[str, ...],
    complaint: str,
) -> None:
    deployed = await deploy(*arguments, environ=environ)
    assert (deployed.code, deployed.settings, account.programs) == (2, {}, [])
    assert complaint in deployed.complaint
    assert "two words" not in deployed.told


# After a key was made


async def test_a_failed_deployment_still_prints_the_key_that_it_made(
    deploy: Deploy, account: Account
) -> None:
    account.can_deploy = False
    deployed = await deploy()
    assert (deployed.code, deployed.settings) == (1, account.secrets[SECRET])
    assert "could not deploy" in deployed.complaint
    assert account.tokens == []


async def test_an_interrupted_deployment_still_prints_the_key_that_it_made(
    deploy: Deploy, account: Account
) -> None:
    def run(command: Sequence[str], environ: Mapping[str, str], *, seconds: float | None) -> Ended:
        if "deploy" in command:
            raise KeyboardInterrupt
        return account(command, environ, seconds=seconds)

    deployed = await deploy(run=run)
    assert (deployed.code, deployed.settings) == (130, account.secrets[SECRET])


async def test_where_no_token_can_be_made_it_says_where_to_make_one(deploy: Deploy, account: Account) -> None:
    account.can_make_tokens = False
    deployed = await deploy()
    assert (deployed.code, deployed.settings) == (1, account.secrets[SECRET])
    assert "https://modal.com/settings/proxy-auth-tokens" in deployed.complaint
    assert "(Error Only owners may do this.)" in deployed.complaint


async def test_where_modal_tells_no_address_it_says_where_that_is(deploy: Deploy, account: Account) -> None:
    account.url = "None"
    deployed = await deploy()
    assert deployed.code == 1
    assert "https://modal.com/apps" in deployed.complaint
    assert deployed.settings[KEY] == account.secrets[SECRET][KEY]


@pytest.mark.parametrize(
    ("program", "answer", "complaint"),
    [
        ("list", "┌ a table ┐", "could not be listed (it answered something else)"),
        ("proxy-tokens", "┌ a table ┐", "no proxy token could be made"),
        ("proxy-tokens", "[]", "no proxy token could be made"),
        ("proxy-tokens", '{"Modal-Key": "wk-made"}', "no proxy token could be made"),
        ("proxy-tokens", '{"Modal-Key": "wk-made", "Modal-Secret": ""}', "no proxy token could be made"),
    ],
)
async def test_an_answer_of_modal_that_is_not_understood_is_said(
    deploy: Deploy, account: Account, program: str, answer: str, complaint: str
) -> None:
    def run(command: Sequence[str], environ: Mapping[str, str], *, seconds: float | None) -> Ended:
        return Ended(0, answer) if program in command else account(command, environ, seconds=seconds)

    deployed = await deploy(run=run)
    assert deployed.code == 1
    assert complaint in deployed.complaint


# At the endpoint


async def test_a_worker_that_never_gets_well_is_given_up(deploy: Deploy) -> None:
    endpoint = deploy.endpoint(before=[(503, {"error": "no model here"})] * 200)
    deployed = await deploy(endpoint=endpoint)
    assert (deployed.code, sum(deployed.slept)) == (1, 180)
    assert "no model here" in deployed.complaint
    assert "modal app logs stt-failover" in deployed.complaint


async def test_a_worker_that_stays_the_old_one_is_given_up(deploy: Deploy) -> None:
    deployed = await deploy(endpoint=deploy.endpoint(before=[(200, {"model": "tiny"})] * 200))
    assert deployed.code == 1
    assert "it runs the model tiny" in deployed.complaint


async def test_nobody_at_the_address_is_given_up(
    deploy: Deploy, account: Account, refusing_port: int
) -> None:
    account.url = f"http://127.0.0.1:{refusing_port}"
    deployed = await deploy()
    assert deployed.code == 1
    assert "was not healthy within 180 s" in deployed.complaint


async def test_a_proxy_token_that_is_refused_is_said(deploy: Deploy) -> None:
    deployed = await deploy(endpoint=deploy.endpoint(token=("wk-other", "ws-other")))
    assert (deployed.code, sum(deployed.slept)) == (1, 60)
    assert "WHISPER_PROXY_KEY" in deployed.complaint


async def test_a_key_that_is_not_the_one_in_the_secret_is_said(deploy: Deploy, account: Account) -> None:
    account.secrets[SECRET] = {KEY: "another"}
    deployed = await deploy(environ={KEY: "own-key"}, endpoint=deploy.endpoint())
    assert deployed.code == 1
    assert "--new-key" in deployed.complaint


async def test_a_proxy_that_will_not_have_the_token_beside_a_key_is_told_from_a_wrong_key(
    deploy: Deploy,
) -> None:
    deployed = await deploy(endpoint=deploy.endpoint(before=[(200, {"model": "medium"}), *[(401, {})] * 99]))
    assert deployed.code == 1
    assert "WHISPER_PROXY_AUTH=false" in deployed.complaint


async def test_words_that_were_not_said_are_a_failure(deploy: Deploy) -> None:
    remote = ScriptedRemote(work=0.0, text="Weasels have eaten our phone system.")
    deployed = await deploy(endpoint=deploy.endpoint(remote=remote))
    assert deployed.code == 1
    assert "Weasels" in deployed.complaint


async def test_an_error_of_the_worker_is_passed_on(deploy: Deploy) -> None:
    remote = ScriptedRemote(errors=(None, *[RuntimeError("no GPU left")] * 9))
    spare = ScriptedModel(work=0.0, error=TranscriptionError("out of memory"))
    deployed = await deploy(endpoint=deploy.endpoint(remote=remote, spare=spare))
    assert deployed.code == 1
    assert "out of memory" in deployed.complaint


async def test_no_answer_is_given_up(deploy: Deploy) -> None:
    endpoint = deploy.endpoint(remote=ScriptedRemote(work=PATIENCE), spare=ScriptedModel(work=PATIENCE))
    deployed = await deploy(endpoint=endpoint, limits=Limits(answer=0.3))
    assert deployed.code == 1
    assert "no answer within 0.3 s" in deployed.complaint


async def test_a_refused_conversation_is_said(deploy: Deploy) -> None:
    before = [(200, {"model": "medium"}), (200, {"gpu": "ready"}), (503, {})]
    deployed = await deploy(endpoint=deploy.endpoint(before=before))
    assert deployed.code == 1
    assert "broke off" in deployed.complaint


async def test_keys_are_in_the_settings_and_nowhere_else(deploy: Deploy, account: Account) -> None:
    account.secrets[SECRET] = {KEY: "another"}
    for environ, arguments in ((OWN, ()), ({}, ("--new-key",))):
        deployed = await deploy(*arguments, environ=environ, endpoint=deploy.endpoint(token=None))
        keys = [deployed.settings.get(name, OWN[name]) for name in OWN]
        arguments_of_programs = " ".join(part for program in account.programs for part in program)
        assert [key for key in keys if key in deployed.told or key in arguments_of_programs] == []


# Real processes


def test_a_program_is_run_to_its_end() -> None:
    code = "import os, sys; print(os.environ['A']); print('wrong', file=sys.stderr); sys.exit(3)"
    ended = run_program([sys.executable, "-c", code], {"A": "b"}, seconds=PATIENCE)
    assert ended == Ended(3, "b\n", "wrong\n")


def test_the_reason_of_a_failure_is_one_line() -> None:
    assert Ended(1, "Usage: …", "wrong\n").reason == "wrong"
    assert Ended(1, "╭─ Error ─╮\n│ not    │\n│ there  │\n╰─────────╯\n").reason == "Error not there"
    assert Ended(1, errors="Traceback:\n  line 1\nNotFoundError: no such app\n").reason == (
        "NotFoundError: no such app"
    )
    assert Ended(3).reason == "exit code 3"


def test_a_program_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(DeployError, match=r"did not answer within 0\.1 s"):
        run_program([sys.executable, "-c", "while True: pass"], {}, seconds=0.1)


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="cannot be run"):
        run_program([str(tmp_path / "python")], {}, seconds=PATIENCE)


async def test_the_whole_command_as_a_process(tmp_path: Path) -> None:
    endpoint = Endpoint(api_key=lambda: load(tmp_path).secrets[SECRET][KEY])
    async with endpoint.serve():
        install(tmp_path, Account(url=endpoint.url))
        process = Process(
            [sys.executable, "-m", "modal_whisper.deploy"],
            {"PYTHONPATH": f"{tmp_path}:{PROJECT}", "WHISPER_GPU": "L4"},
        )
        try:
            code = await asyncio.to_thread(process.wait)
        finally:
            await asyncio.to_thread(process.stop)
    account = load(tmp_path)
    assert code == 0, process.log
    assert process.output.splitlines() == [
        f"WHISPER_SERVICE_URL={endpoint.url.replace('http', 'ws')}",
        f"{KEY}={account.secrets[SECRET][KEY]}",
        "WHISPER_PROXY_KEY=wk-made",
        "WHISPER_PROXY_SECRET=ws-made",
    ]
    assert "App deployed!" in process.log  # Modal's own words
    assert account.deployed[0]["WHISPER_GPU"] == "L4"
