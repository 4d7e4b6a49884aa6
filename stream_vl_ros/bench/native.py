"""Native one-shot inference: what every answer of the engine is compared with.

Nothing of the engine takes part. transformers' processor prepares all frames and the whole prompt, transformers'
`generate` or `forward` runs them in one go, with one of transformers' own attention implementations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class NativeAnswer:
    """Greedy continuation and the logits of its first token, float32 of shape (vocabulary,)."""

    token_ids: tuple[int, ...]
    text: str
    logits: Tensor


class NativeModel:
    """A checkpoint loaded and run by transformers alone."""

    def __init__(
        self, folder: str, *, attention: str = "sdpa", dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        import transformers

        self.processor = transformers.AutoProcessor.from_pretrained(folder, trust_remote_code=False)
        self.model = transformers.AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, trust_remote_code=False, use_safetensors=True
        )
        self.model.to(device).eval()

    @classmethod
    def of(cls, model: Any, processor: Any) -> NativeModel:
        """A model that is in memory already."""
        native = cls.__new__(cls)
        native.model, native.processor = model, processor
        return native

    def prompt(self, conversation: list[dict[str, Any]]) -> str:
        """The checkpoint's chat template over a conversation, up to the beginning of the next answer."""
        text: str = self.processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        return text

    def inputs(self, prompt: str, videos: Sequence[np.ndarray], fps: float) -> dict[str, Any]:
        """Model inputs of a prompt with one ``<|video_pad|>`` per video.

        `videos` are uint8 arrays (frames, height, width, 3), sampled at `fps` frames per second.
        """
        metadata = [{"fps": fps, "total_num_frames": len(v), "frames_indices": list(range(len(v)))} for v in videos]
        batch = self.processor(
            text=[prompt],
            videos=[torch.from_numpy(np.ascontiguousarray(v)).permute(0, 3, 1, 2) for v in videos],
            video_metadata=metadata,
            do_sample_frames=False,
            cap_pixels_per_frame=False,
            # Pictures are resized where the model is, as the engine does: a GPU rounds some grey levels otherwise.
            device=self.model.device,
            return_tensors="pt",
        )
        return {k: v.to(self.model.device) if isinstance(v, Tensor) else v for k, v in batch.items()}

    def generate(
        self,
        inputs: dict[str, Any],
        max_new_tokens: int,
        *,
        text_base: str = "transformers",
        patch_times: Sequence[Sequence[float]] | None = None,
        position_ids: Tensor | None = None,
        streamer: Any = None,
    ) -> NativeAnswer:
        """Greedy answer to prepared inputs.

        `text_base` ``"transformers"`` leaves all positions to the installed transformers; ``"trained"`` passes
        positions that place text after each video at the largest position + 1, for videos of irregular cadence with
        the `patch_times` that `trained_positions` takes. `position_ids` are used instead, if given. `streamer` is
        transformers' own: it gets each token at once.
        """
        # State that an earlier call left on the model changes the positions of this one.
        self.model.model.rope_deltas = None
        extra = {}
        if position_ids is not None:
            extra["position_ids"] = position_ids
        elif text_base != "transformers":
            extra["position_ids"] = self.trained_positions(inputs, patch_times)
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                **extra,
                streamer=streamer,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                repetition_penalty=1.0,
                return_dict_in_generate=True,
                output_logits=True,
            )
        ids = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        eos = self.model.generation_config.eos_token_id
        stops = set(eos if isinstance(eos, list) else [eos])
        kept = [*ids]
        while kept and kept[-1] in stops:
            kept.pop()
        text = self.processor.tokenizer.decode(kept, skip_special_tokens=True).strip()
        return NativeAnswer(tuple(kept), text, output.logits[0][0].float().cpu())

    def logits(self, inputs: dict[str, Any], positions: Tensor) -> Tensor:
        """Logits of every token of one plain forward pass with explicit positions: (tokens, vocabulary), float32."""
        self.model.model.rope_deltas = None
        with torch.inference_mode():
            output = self.model(**inputs, position_ids=positions.to(self.model.device))
        scores: Tensor = output.logits[0].float().cpu()
        return scores

    def trained_positions(self, inputs: dict[str, Any], patch_times: Sequence[Sequence[float]] | None = None) -> Tensor:
        """Positions as the family was trained: the positions of transformers, its text moved behind each video.

        Written independently of the engine's position arithmetic, by walking over the token types.

        Args:
            patch_times: seconds of each pair of frames since the start of its video, for videos of irregular cadence.

        Returns:
            int64, (3, 1, tokens).
        """
        config = self.model.config
        merge = config.vision_config.spatial_merge_size
        # Qwen2-VL knows no seconds: its patches are one position apart.
        rate = getattr(config.vision_config, "tokens_per_second", 1)
        grids = inputs["video_grid_thw"].tolist()
        spacing = inputs.get("second_per_grid_ts", [1.0] * len(grids))
        columns: list[tuple[int, int, int]] = []
        following = 0
        video = -1
        kinds = inputs["mm_token_type_ids"][0].tolist()
        index = 0
        while index < len(kinds):
            if kinds[index] == 0:
                columns.append((following,) * 3)
                following += 1
                index += 1
                continue
            video += 1
            frames, rows, cols = grids[video][0], grids[video][1] // merge, grids[video][2] // merge
            for t in range(frames):
                if patch_times is not None:
                    late = int(patch_times[video][t] * rate)
                else:
                    late = int(t * (rate * spacing[video]))  # in float32, as transformers does
                for y in range(rows):
                    columns += [(following + late, following + y, following + x) for x in range(cols)]
            following = max(max(c) for c in columns) + 1
            index += frames * rows * cols
        return torch.tensor(columns).T[:, None].contiguous().to(inputs["input_ids"].device)


def user_turn(question: str, *, videos: int = 1) -> dict[str, Any]:
    """A user's message: `videos` videos, then the question."""
    video = {"type": "video", "video": "video.mp4"}
    return {"role": "user", "content": [*[video] * videos, {"type": "text", "text": question}]}


def assistant_turn(answer: str) -> dict[str, Any]:
    """An assistant's message."""
    return {"role": "assistant", "content": [{"type": "text", "text": answer}]}
