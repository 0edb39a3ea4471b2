"""The fake provider speaks DeepSeek's API: seen through the official OpenAI client."""

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import openai
import pytest
import requests

from command.stack.processes import Child, free_port


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    argv = [sys.executable, "-m", "demo.provider", "--listen", f"127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}"
    child = Child(
        "provider", [*argv, "--balance", "0.00030"], tmp_path / "provider.log", f"{url}/health"
    )
    child.start()
    try:
        child.wait_ready()
        yield url
    finally:
        child.stop()


@pytest.fixture
def client(provider: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=provider, api_key="simulated", max_retries=0)


def ask(client: openai.OpenAI, words: int, **more: object) -> object:
    messages = [{"role": "user", "content": "word " * words}]
    return client.chat.completions.create(
        model="deepseek-chat", messages=messages, max_tokens=20, **more
    )  # type: ignore[call-overload]


def test_usage_counts_every_token_and_repeated_prefixes_hit_the_cache(
    client: openai.OpenAI, provider: str
) -> None:
    first, second = ask(client, 200).usage, ask(client, 200).usage  # type: ignore[attr-defined]
    assert (first.prompt_tokens, first.completion_tokens, first.total_tokens) == (200, 20, 220)
    assert (first.prompt_cache_hit_tokens, first.prompt_cache_miss_tokens) == (0, 200)
    # Whole units of 64 tokens: 3 x 64.
    assert (second.prompt_cache_hit_tokens, second.prompt_cache_miss_tokens) == (192, 8)
    assert second.prompt_tokens_details.cached_tokens == 192
    served = requests.get(f"{provider}/sim/usage", timeout=5).json()
    assert served == {
        "requests": 2,
        "prompt_tokens": 400,
        "cached_tokens": 192,
        "completion_tokens": 40,
    }


def test_a_stream_tells_its_usage_only_when_asked(client: openai.OpenAI) -> None:
    chunks = list(ask(client, 10, stream=True))  # type: ignore[call-overload]
    assert all(chunk.usage is None for chunk in chunks)
    chunks = list(ask(client, 10, stream=True, stream_options={"include_usage": True}))  # type: ignore[call-overload]
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [30]


def test_the_balance_falls_with_the_list_price_and_an_empty_one_is_402(
    client: openai.OpenAI, provider: str
) -> None:
    headers = {"Authorization": "Bearer simulated"}
    url = f"{provider}/user/balance"
    before = requests.get(url, headers=headers, timeout=5).json()
    assert before["is_available"] is True
    assert before["balance_infos"][0]["currency"] == "USD"
    ask(client, 2000)  # 2,000 x 0.27 + 20 x 1.10 micro-dollars = $0.000562, more than is there
    after = requests.get(url, headers=headers, timeout=5).json()
    assert after["is_available"] is False
    assert Decimal(after["balance_infos"][0]["total_balance"]) == 0
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client, 1)
    assert refused.value.status_code == 402


def test_without_a_key_or_a_known_model_the_api_refuses(provider: str) -> None:
    url = f"{provider}/chat/completions"
    assert requests.post(url, json={}, timeout=5).status_code == 401
    headers = {"Authorization": "Bearer simulated"}
    answer = requests.post(url, json={"model": "gpt-9"}, headers=headers, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "Model Not Exist"
    assert requests.post(url, data="{", headers=headers, timeout=5).status_code == 400
