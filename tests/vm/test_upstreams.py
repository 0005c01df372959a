"""curl in the guest, nginx and dnsmasq outside: who gets the value, and over what."""

from __future__ import annotations

import secrets as random
from pathlib import Path

from sandlot import Network, Sandbox
from tests.framework.internet import internet
from tests.framework.upstreams import dnsmasq, nginx

HOST, ADDRESS = "api.example.com", "93.184.216.34"
CURL = 'curl -sS -m 100 -H "Authorization: Bearer $API_KEY" '


async def test_only_the_host_with_the_right_certificate_gets_the_value(
    net_image: str, tmp_path: Path
) -> None:
    value = f"sk-{random.token_hex(20)}"
    with internet() as net:
        async with (
            nginx(tmp_path, HOST, ADDRESS, value) as server,
            dnsmasq({HOST: ADDRESS, "private.example.com": "10.0.0.5"}) as resolver,
            Sandbox.create(
                image=net_image, memory="512M", dns=[resolver], upstream_ca=server.authority,
                network=Network(allow=[HOST, "private.example.com"]),
                secrets={"API_KEY": (value, HOST)},
            ) as sandbox,
        ):  # fmt: skip

            async def curl(options: str, animal: str) -> tuple[int, str]:
                url = f"https://{HOST}:{server.ports[animal]}/{animal}"
                result = await sandbox.exec(f"{CURL} {options} {url}", timeout=120)
                return result.exit_code, result.text + result.stderr.decode()

            first = await curl("--http2", "good")
            assert first == (0, "value HTTP/2.0\n"), (first, sandbox.network.flows())
            assert await curl("--http1.1", "good") == (0, "value HTTP/1.1\n")
            for animal in server.ports:
                if animal != "good":
                    status, said = await curl("-k", animal)
                    assert status != 0 and "value" not in said and "nothing" not in said, animal
            log = server.log.read_text()
            assert log.count(value) == 2 and len(log.splitlines()) == 2, log
            reasons = [f.reason for f in sandbox.network.flows() if "certificate" in f.reason]
            assert len(reasons) == len(server.ports) - 1, reasons
            result = await sandbox.exec("curl -sS -m 60 https://private.example.com/", timeout=120)
            assert result.exit_code == 6, result.stderr.decode()  # no such name
            assert not net.touched and set(net.led) == {ADDRESS}
