"""A bucket of an S3-compatible server on this machine, and what is in it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

_NUMBERS = itertools.count()


class Bucket:
    """Spoken to by Amazon's own library, which the product does not use."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name
        self.url = f"s3://{name}"

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def put_folder(self, folder: Path, key: str = "") -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{key or folder.name}/{path.relative_to(folder)}", path.read_bytes())

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def keys(self, prefix: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for entry in found.get("Contents", [])]

    def contents(self, prefix: str) -> dict[str, bytes]:
        """By their names below a prefix that ends with `/`."""
        return {key.removeprefix(prefix): self.get(key) for key in self.keys(prefix)}


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty one, which is where the environment says that S3 is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    client = boto3.client("s3")
    name = f"bucket-{next(_NUMBERS)}"
    client.create_bucket(Bucket=name)
    return Bucket(client, name)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where staged files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder
