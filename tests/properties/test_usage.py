"""Known counts in every spelling: HTTP, log and client book the same, to the pico-dollar."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config import Log
from exporter.intake.logs.mapping import read_lines
from exporter.ledger.books import Amounts, Series
from sdk.client import Client, count_tokens, usual_tokens
from tests.support.examples import examples
from tests.support.exporters import NOON, Exporter

# USD per 1,000 tokens, told apart by primes; the second model has no price for any kind.
KINDS = ("cache_write", "cache_write_1h", "input_audio", "cached_audio", "output_audio",
         "input_image", "output_image")  # fmt: skip
PRICES = dict(zip(("input", "cached", "output", *KINDS),
                  (2, 3, 5, 7, 11, 13, 17, 19, 23, 29), strict=True))  # fmt: skip
RATES = "input_usd_per_1k: 2e-9, cached_input_usd_per_1k: 3e-9, output_usd_per_1k: 5e-9"
EXTRAS = ", ".join(f"{kind}: {PRICES[kind]}e-9" for kind in KINDS)
CONFIG = f"""
prices:
  full: {{{RATES}, extras_usd_per_1k: {{{EXTRAS}}}}}
  bare: {{{RATES}}}
"""
KEYS: Any = {key: key for key in ("id", "time", "roaster", "field", "model", "outcome")}
MAPPED = Log("llm.log", {**KEYS, "usage": "deep.down"})
WAYS = ("http", "log", "client")


@dataclass
class Counts:
    """Disjoint counts of a call, and whether its object names the total."""

    input: int
    cached: int
    output: int
    reasoning: int
    cache_write: int
    cache_write_1h: int
    input_audio: int
    cached_audio: int
    output_audio: int
    input_image: int
    output_image: int
    total_named: bool

    @property
    def written(self) -> int:
        return self.cache_write + self.cache_write_1h

    @property
    def read(self) -> int:
        return self.cached + self.cached_audio

    @property
    def fresh(self) -> int:
        return self.input + self.input_audio + self.input_image

    @property
    def prompt(self) -> int:
        return self.fresh + self.read + self.written

    @property
    def answer(self) -> int:
        return self.output + self.output_audio + self.output_image

    @property
    def total(self) -> int:
        return self.prompt + self.answer + self.reasoning

    @property
    def cost(self) -> int:
        plain = self.input * 2 + self.cached * 3 + (self.output + self.reasoning) * 5
        return plain + sum(getattr(self, kind) * PRICES[kind] for kind in KINDS)

    @property
    def has_kinds(self) -> bool:
        return any(getattr(self, kind) for kind in KINDS)

    def without(self, *names: str) -> "Counts":
        """For a spelling that has no word for these."""
        return Counts(**{**vars(self), **dict.fromkeys(names, 0)})


NO_MEDIA = ("input_audio", "cached_audio", "output_audio", "input_image", "output_image")
NO_WRITES = ("cache_write", "cache_write_1h")
Spelt = tuple[Counts, dict[str, Any]]
SPELLINGS: list[Callable[[Counts], Spelt]] = []


def spelling(function: Callable[[Counts], Spelt]) -> Callable[[Counts], Spelt]:
    SPELLINGS.append(function)
    return function


def media(c: Counts) -> tuple[dict[str, Any], dict[str, Any]]:
    cached = {"text_tokens": c.cached, "audio_tokens": c.cached_audio}
    inside = {"audio_tokens": c.input_audio + c.cached_audio, "image_tokens": c.input_image}
    outside = {"audio_tokens": c.output_audio, "image_tokens": c.output_image}
    return {**inside, "cached_tokens_details": cached}, outside


@spelling
def openai_chat(c: Counts) -> Spelt:
    c = c.without("cache_write_1h")
    inside, outside = media(c)
    return c, {
        "prompt_tokens": c.prompt,
        "completion_tokens": c.answer + c.reasoning,
        "total_tokens": c.total,
        "prompt_tokens_details": {
            "cached_tokens": c.read, "cache_write_tokens": c.cache_write, **inside},
        "completion_tokens_details": {"reasoning_tokens": c.reasoning, **outside},
    }  # fmt: skip


@spelling
def reasoning_outside(c: Counts) -> Spelt:
    """xAI: the total says so."""
    c, usage = openai_chat(c)
    return c, {**usage, "completion_tokens": c.answer}


@spelling
def deepseek(c: Counts) -> Spelt:
    c = c.without(*NO_MEDIA, *NO_WRITES)
    usage = {
        "prompt_cache_hit_tokens": c.cached,
        "prompt_cache_miss_tokens": c.input,
        "completion_tokens": c.output + c.reasoning,
        "completion_tokens_details": {"reasoning_tokens": c.reasoning},
    }
    return c, {**usage, "prompt_tokens": c.prompt} if c.total_named else usage


@spelling
def responses(c: Counts) -> Spelt:
    c, usage = openai_chat(c)
    return c, {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage["prompt_tokens_details"],
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": usage["completion_tokens_details"],
        **({"total_tokens": c.total} if c.total_named else {}),
    }


@spelling
def anthropic(c: Counts) -> Spelt:
    c = c.without(*NO_MEDIA)
    return c, {
        "input_tokens": c.input,
        "cache_read_input_tokens": c.cached,
        "cache_creation_input_tokens": c.written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": c.cache_write,
            "ephemeral_1h_input_tokens": c.cache_write_1h,
        },
        "output_tokens": c.output + c.reasoning,
        **({"total_tokens": c.total} if c.total_named else {}),
    }


@spelling
def bedrock(c: Counts) -> Spelt:
    c = c.without(*NO_MEDIA)
    return c, {
        "inputTokens": c.input,
        "outputTokens": c.output + c.reasoning,
        "totalTokens": c.total,
        "cacheReadInputTokens": c.cached,
        "cacheWriteInputTokens": c.written,
        "cacheDetails": [
            {"ttl": "5m", "inputTokens": c.cache_write},
            {"ttl": "1h", "inputTokens": c.cache_write_1h},
        ],
    }


@spelling
def litellm(c: Counts) -> Spelt:
    c = c.without(*NO_MEDIA)
    return c, {
        "prompt_tokens": c.prompt,
        "completion_tokens": c.output + c.reasoning,
        "cache_read_input_tokens": c.cached,
        "cache_creation_input_tokens": c.written,
        "prompt_tokens_details": {
            "cached_tokens": c.cached,
            "cache_creation_tokens": c.written,
            "cache_creation_token_details": {"ephemeral_1h_input_tokens": c.cache_write_1h},
        },
    }


@spelling
def prompt_without_cache(c: Counts) -> Spelt:
    """Gateways that hand on Anthropic's figures under OpenAI's names: the total tells."""
    c = c.without(*NO_MEDIA, "reasoning", "cache_write_1h")
    return c, {
        "prompt_tokens": c.input,
        "cache_read_input_tokens": c.cached,
        "cache_creation_input_tokens": c.cache_write,
        "completion_tokens": c.output,
        "total_tokens": c.total,
    }


def modalities(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": name.upper(), "tokenCount": n} for name, n in counts.items() if n]


@spelling
def gemini(c: Counts) -> Spelt:
    c = c.without(*NO_WRITES)
    return c, {
        "promptTokenCount": c.prompt,
        "cachedContentTokenCount": c.read,
        "candidatesTokenCount": c.answer,
        "thoughtsTokenCount": c.reasoning,
        "totalTokenCount": c.total,
        "promptTokensDetails": modalities(
            text=c.input + c.cached, audio=c.input_audio + c.cached_audio, image=c.input_image
        ),
        "cacheTokensDetails": modalities(text=c.cached, audio=c.cached_audio),
        "candidatesTokensDetails": modalities(audio=c.output_audio, image=c.output_image),
    }


@spelling
def langchain(c: Counts) -> Spelt:
    c = c.without("cached_audio", "input_image", "output_image")
    return c, {
        "usage_metadata": {
            "input_tokens": c.prompt,
            "output_tokens": c.answer + c.reasoning,
            "total_tokens": c.total,
            "input_token_details": {
                "audio": c.input_audio,
                "cache_read": c.cached,
                "cache_creation": 0 if c.cache_write_1h else c.written,
                "ephemeral_5m_input_tokens": c.cache_write,
                "ephemeral_1h_input_tokens": c.cache_write_1h,
            },
            "output_token_details": {"audio": c.output_audio, "reasoning": c.reasoning},
        }
    }


@spelling
def ai_sdk_4(c: Counts) -> Spelt:
    c = c.without(*NO_MEDIA, *NO_WRITES, "cached", "reasoning")
    return c, {"promptTokens": c.prompt, "completionTokens": c.output, "totalTokens": c.total}


@spelling
def ai_sdk_6(c: Counts) -> Spelt:
    c = c.without(*NO_MEDIA, "cache_write_1h")
    return c, {
        "inputTokens": c.prompt,
        "inputTokenDetails": {
            "noCacheTokens": c.input,
            "cacheReadTokens": c.cached,
            "cacheWriteTokens": c.cache_write,
        },
        "outputTokens": c.output + c.reasoning,
        "outputTokenDetails": {"textTokens": c.output, "reasoningTokens": c.reasoning},
        "totalTokens": c.total,
        "cachedInputTokens": c.cached,
    }


@spelling
def ollama(c: Counts) -> Spelt:
    c = c.without(*NO_MEDIA, *NO_WRITES, "cached", "reasoning")
    return c, {"prompt_eval_count": c.prompt, "eval_count": c.output}


@spelling
def cohere(c: Counts) -> Spelt:
    c = c.without(*NO_MEDIA, *NO_WRITES, "cached", "reasoning")
    billed = {"input_tokens": c.prompt, "output_tokens": c.output}
    processed = {"input_tokens": c.prompt + 66, "output_tokens": c.output}
    return c, {"billed_units": billed, "tokens": processed}


def namespace(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: namespace(inner) for key, inner in value.items()})
    return [namespace(item) for item in value] if isinstance(value, list) else value


class Books:
    """One exporter, told the same usage in every way; a roaster stands for a way."""

    def __init__(self, folder: Path, exporter: Exporter) -> None:
        self.exporter = exporter
        # Nobody cuts the power of a test.
        exporter.ledger.writer.db.execute("PRAGMA synchronous = OFF")
        self.spool = folder / "spool"
        self.client = Client(self.spool)

    def book(self, usage: dict[str, Any], model: str, field: Any) -> list[tuple[Amounts, int]]:
        """What each way added to the accounts, and the tokens it left without a price."""
        before = [self._sums(way, model) for way in WAYS]
        event = {"outcome": "success", "field": "f", "model": model}
        self.exporter.book({**event, "roaster": "http", "usage": usage})
        line = {**event, "roaster": "log", "deep": {"down": {"usage": usage}}}
        self._lines([json.dumps(line).encode()], MAPPED)
        said = namespace(usage) if field == "f" else usage
        self.client.record("client", field, usage=said, model=model, at=NOON)
        self._lines(self.spool.read_bytes().split(b"\n")[1:], None)
        self.client.close()
        self.spool.unlink()
        after = [self._sums(way, model) for way in WAYS]
        return [self._difference(*pair) for pair in zip(after, before, strict=True)]

    def _lines(self, lines: list[bytes], rule: Log | None) -> None:
        events, _ = read_lines(lines, rule, NOON)
        self.exporter.ledger.submit(events).result(30)

    def _sums(self, way: str, model: str) -> Amounts:
        sums = Amounts()
        for series, amounts in self.exporter.ledger.books.totals.items():
            if (series.roaster, series.model) == (way, model):
                sums.add(amounts)
        return sums

    @staticmethod
    def _difference(after: Amounts, before: Amounts) -> tuple[Amounts, int]:
        after.add(before.minus())
        after.success = min(after.success, 1)  # the shares of a call are a call each
        return after, after.tokens


COUNT = st.sampled_from([0, 0, 1, 2, 300, 4000])
COUNTS = st.builds(Counts, st.integers(1, 5000), *[COUNT] * 10, st.booleans())


def test_every_spelling_costs_the_same_by_every_way(tmp_path: Path) -> None:
    with Exporter(tmp_path, CONFIG) as exporter:
        books = Books(tmp_path, exporter)

        @settings(max_examples=examples(100), deadline=None)
        @given(
            COUNTS,
            st.sampled_from(SPELLINGS),
            st.sampled_from(["full", "bare"]),
            st.sampled_from(["f", ["f", "g"], {"f": 0.001, "g": 3, "h": 2}]),
        )
        def agree(counts: Counts, spell: Callable[[Counts], Spelt], model: str, field: Any) -> None:
            counts, usage = spell(counts)
            priced = model == "full" or not counts.has_kinds
            for booked, tokens in books.book(usage, model, field):
                assert booked.success == 1
                assert tokens == counts.total
                assert booked.cached_input_tokens == counts.read
                assert booked.output_tokens == counts.answer + counts.reasoning
                if priced or field == "f":
                    assert booked.cost_picodollars == (counts.cost if priced else 0)

        agree()


NUMBER = st.sampled_from([None, 0, 1, 7, 40, 100, 107, -1, 1.5, "7", True])
SMALL = st.sampled_from([None, 0, 7, 40, 100])
ANY = st.dictionaries(
    st.sampled_from(["prompt_tokens", "input_tokens", "inputTokens", "output_tokens",
                     "completion_tokens", "total_tokens", "totalTokens", "cached_tokens",
                     "cachedInputTokens", "cache_read_input_tokens", "reasoning_tokens",
                     "cache_creation_input_tokens", "prompt_cache_hit_tokens", "tokens_seen"]),
    NUMBER, max_size=6,
) | st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": SMALL, "input_tokens": SMALL, "output_tokens": SMALL,
        "total_tokens": SMALL, "cache_read_input_tokens": SMALL, "cachedInputTokens": SMALL,
        "input_tokens_details": st.fixed_dictionaries({"cached_tokens": SMALL}),
        "output_tokens_details": st.fixed_dictionaries({"reasoning_tokens": SMALL}),
    },
)  # fmt: skip


def test_any_usage_is_booked_alike_or_refused_by_all_and_never_below_its_total(
    tmp_path: Path,
) -> None:
    with Exporter(tmp_path, CONFIG) as exporter:
        books = Books(tmp_path, exporter)

        @settings(max_examples=examples(120), deadline=None)
        @given(ANY)
        def agree(usage: dict[str, Any]) -> None:
            (http, tokens), *others = books.book(usage, "full", "f")
            assert [other for other, _ in others] == [http, http]
            totals = [usage.get("total_tokens"), usage.get("totalTokens")]
            if http.success:
                assert tokens >= max(n for n in (*totals, 1) if type(n) is int)
                assert http.input_tokens + http.cached_input_tokens > 0

        agree()


def test_the_series_that_is_compared_is_the_one_that_is_booked(tmp_path: Path) -> None:
    with Exporter(tmp_path, CONFIG) as exporter:
        Books(tmp_path, exporter).book({"prompt_tokens": 3}, "full", "f")
        assert set(exporter.ledger.books.totals) == {Series(way, "f", "full") for way in WAYS}


FEW = st.sampled_from([None, 0, 1, 3, 40, 43, -1, 1.0, "3", True])
USUAL = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": FEW, "completion_tokens": FEW, "total_tokens": FEW,
        "prompt_cache_hit_tokens": FEW, "prompt_cache_miss_tokens": FEW,
        "prompt_tokens_details": st.none() | st.dictionaries(
            st.sampled_from(["cached_tokens", "audio_tokens", "text_tokens", "cache_write_tokens"]),
            FEW, max_size=2),
        "completion_tokens_details": st.none() | st.dictionaries(
            st.sampled_from(["reasoning_tokens", "audio_tokens"]), FEW, max_size=2),
    },
)  # fmt: skip


@settings(max_examples=examples(500), deadline=None)
@given(USUAL)
def test_the_short_way_through_usual_objects_ends_where_the_long_way_does(
    usage: dict[str, Any],
) -> None:
    if usual := usual_tokens(usage):
        assert count_tokens({**usage, "x": None}) == usual
