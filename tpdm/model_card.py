"""What a saved pipeline says of itself: what it is, how it is called, and its figures."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tpdm.types import FeatureSpec

TEXT = """---
library_name: tpdm
pipeline_tag: text-to-image
---
A Stable Diffusion 3 with a Time Predictor, which decides for each image which noise level to visit next.

```python
from tpdm.pipeline import TPDMPipeline

pipe = TPDMPipeline.from_pretrained("THIS FOLDER OR ID")
answer = pipe("A beautiful sunset over mountains", max_steps=28, guidance_scale=7.0)
answer.images[0], answer.nfe, answer.times
```
{table}
The predictor, for features {features}:

```json
{predictor}
```
"""


def model_card(predictor: Mapping[str, Any], features: FeatureSpec, figures: Mapping[str, Any]) -> str:
    """Markdown for the hub. `predictor` is its config, `figures` what was measured of it, by name."""
    rows = "".join(f"| {name} | {value} |\n" for name, value in figures.items())
    table = f"\n| figure | value |\n| --- | --- |\n{rows}" if rows else "\nNo figures were kept.\n"
    return TEXT.format(
        predictor=json.dumps(dict(predictor), indent=2), features=json.dumps(asdict(features)), table=table
    )
