"""A scorer behind a URL: whatever cannot live in this process."""

import base64
import json
import time
from collections.abc import Sequence
from io import BytesIO
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tpdm.registry import NonNegative, Positive, register
from tpdm.reward.cost import Cost
from tpdm.reward.pixels import eight_bits
from tpdm.reward.scorer import captions

BUSY = {408, 425, 429, 500, 502, 503, 504}  # worth another try


@register("reward", "http")
class HTTPReward:
    """POSTs {"images": [PNG in base64], "prompts": [text or null]}; the answer is {"scores": [number]}.

    A call that fails for a reason that may pass is tried `retries` times more, after `wait` seconds, then
    twice as many, and so on. ConnectionError where none succeeds, or the answer is something else.
    """

    uses_target = False
    uses_prompts = False  # they are sent where there are some

    def __init__(
        self,
        url: str,
        batch_size: Positive[int],
        timeout: Positive[float],
        retries: NonNegative[int],
        wait: NonNegative[float],
        cost: Cost,
        *,
        key: str = "reward",
    ):
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise ValueError(f"{key}.url={url} is no address; accepted: http://HOST:PORT/PATH, or https")
        self.url, self.batch_size, self.cost, self.key = url, batch_size, cost, key
        self.timeout, self.retries, self.wait = timeout, retries, wait

    def __call__(
        self,
        x0: Float[Tensor, "B C H W"],
        cond: Any,
        target: Tensor | None,
        prompts: Sequence[str] | None = None,
    ) -> Float[Tensor, "B"]:
        asked = [None] * len(x0) if prompts is None else captions(self, prompts, len(x0))
        scores: list[float] = []
        for start in range(0, len(x0), self.batch_size):
            part = slice(start, start + self.batch_size)
            scores += self.answer([png(image) for image in eight_bits(x0[part])], list(asked[part]))
        return torch.tensor(scores, device=x0.device)

    def answer(self, images: list[str], prompts: Sequence[str | None]) -> list[float]:
        body = json.dumps({"images": images, "prompts": list(prompts)}).encode()
        return self.read(self.post(body), len(images))

    def post(self, body: bytes) -> bytes:
        """What the scorer answers; ConnectionError where it does not."""
        request = Request(self.url, body, {"Content-Type": "application/json"})
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.wait * 2 ** (attempt - 1))
            try:
                with urlopen(request, timeout=self.timeout) as response:
                    return response.read()
            except OSError as error:  # of which URLError, HTTPError and time-outs are some
                reason = error
                if isinstance(error, HTTPError) and error.code not in BUSY:
                    break
        raise ConnectionError(
            f"{self.key}.url={self.url} did not answer in {attempt + 1} tries of {self.timeout:g} s: {reason}"
        )

    def read(self, answer: bytes, count: int) -> list[float]:
        try:
            scores = json.loads(answer)["scores"]
            numbers = [float("nan") if score is None else float(score) for score in scores]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ConnectionError(
                f'{self.key}.url={self.url} answered {answer[:80]!r}; expected {{"scores": [number, ...]}}'
            ) from None
        if len(numbers) != count:
            raise ConnectionError(
                f"{self.key}.url={self.url} answered {len(numbers)} scores for {count} images"
            )
        return numbers


def png(image: Float[Tensor, "3 H W"]) -> str:
    file = BytesIO()
    Image.fromarray(image.to(torch.uint8).permute(1, 2, 0).cpu().numpy()).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
