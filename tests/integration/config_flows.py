"""A person at the config flow."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from homeassistant.config_entries import SOURCE_USER
from homeassistant.const import CONF_HOST, CONF_PORT, CONF_TOKEN
from homeassistant.helpers.service_info.hassio import HassioServiceInfo
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo

from custom_components.stt_failover.const import DOMAIN
from tests.integration.fake_server import TOKEN, FakeServer
from tests.integration.flows import checked

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant

KEY = "marked-key-8e2f"
WORKER = "ws://192.168.1.20:10301"
REFUSED = {"ok": False, "text": None, "ms": None, "code": "sign-in-refused", "message": "the key is wrong"}


def address(server: FakeServer, **changes: Any) -> dict[str, Any]:
    return {CONF_HOST: "127.0.0.1", CONF_PORT: server.port, CONF_TOKEN: TOKEN} | changes


async def start(hass: HomeAssistant, source: str = SOURCE_USER, data: Any = None) -> Any:
    return checked(await hass.config_entries.flow.async_init(DOMAIN, context={"source": source}, data=data))


async def answer(hass: HomeAssistant, result: Any, **given: Any) -> Any:
    result = checked(await hass.config_entries.flow.async_configure(result["flow_id"], given))
    await hass.async_block_till_done()
    return result


async def choose(hass: HomeAssistant, result: Any, step: str) -> Any:
    given = {"next_step_id": step}
    return checked(await hass.config_entries.flow.async_configure(result["flow_id"], given))


async def connected(hass: HomeAssistant, server: FakeServer) -> Any:
    return await answer(hass, await start(hass), **address(server))


def mdns(server: FakeServer, **properties: str) -> ZeroconfServiceInfo:
    return ZeroconfServiceInfo(
        ip_address=ip_address("127.0.0.1"),
        ip_addresses=[ip_address("127.0.0.1")],
        port=server.port,
        hostname="server.local.",
        type="_stt-failover._tcp.local.",
        name="abc._stt-failover._tcp.local.",
        properties=properties,
    )


def app(server: FakeServer, **changes: Any) -> HassioServiceInfo:
    config = address(server) | changes | {"addon": "STT Failover"}
    return HassioServiceInfo(config=config, name="STT Failover", slug="stt_failover", uuid="1234")
