"""Addresses of a cluster that are none are refused before anything tries to reach them; its workers."""

import socket

import pytest

from qsens.core.errors import SpecError
from qsens.run.worker_pools import ClusterPool, open_cluster_pool


def nobody(host, *_, **__):
    raise socket.gaierror(-2, f"Name or service not known: {host}")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nonsense", "it is not HOST:PORT"),
        ("", "it is not HOST:PORT"),
        ("tcp://", "it is not HOST:PORT"),
        ("tcp://a b:1", "it is not HOST:PORT"),
        ("tcp://host:1:2", "it is not HOST:PORT"),
        ("tcp://host:port", "it is not HOST:PORT"),
        ("inproc://x/1/2", "it is not HOST:PORT"),
        ("http://host:80", "'http' is not one of tcp, tls"),
        ("tcp://host:0", "no port has the number 0"),
        ("tcp://host:99999", "no port has the number 99999"),
        ("tcp://host.invalid:8786", "no host is known as 'host.invalid'"),
        ("a" * 300 + ":1", "no host is known as"),
        ("host\0:1", "no host is known as"),
    ],
)
def test_an_address_that_is_none_is_refused_at_once(address, reason, monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(SpecError) as raised:
        open_cluster_pool(address)
    assert f"{address!r} is no address of a scheduler: {reason}" in raised.value.message
    assert "tcp://HOST:8786" in raised.value.hint
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


class Client:
    """One of a version of distributed that lists five workers where it is not asked for all."""

    def get_executor(self, pure):
        return None

    def scheduler_info(self, n_workers=5):
        workers = [f"tcp://10.0.0.{place}:1" for place in range(200)]
        return {"workers": {name: {} for name in workers[: n_workers if n_workers >= 0 else None]}}


def test_all_workers_of_a_cluster_are_known():
    assert ClusterPool(Client(), "tcp://host:8786").size == 200
