"""A small Qwen2.5-VL with random numbers, written by its own library: the format is the real one, what it says means nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from affectkit import weight_files
from affectkit_ras.tiny_text import alphabet, marked, save, stirred

# The marks of a conversation as Qwen2.5 reads it, and where a video stands in it.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
END, BEGIN, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION = {
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}
WIDTH = 32


def write_qwen(folder: Path) -> Path:
    """Config, weights, tokenizer and processor of a Qwen2.5-VL; pictures are cut into patches as the published ones cut them."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2Tokenizer,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    places = {token: place for place, token in enumerate([*alphabet(), END, BEGIN, STOP, *VISION.values()])}
    tokenizer = Qwen2Tokenizer(vocab=places, merges=[], eos_token=STOP, pad_token=END, extra_special_tokens=[BEGIN, *VISION.values()])
    pixels = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels),
        video_processor=Qwen2VLVideoProcessor(size=pixels),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
    )
    text: dict[str, Any] = {
        "vocab_size": len(places),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "bos_token_id": places[END],
        "eos_token_id": places[STOP],
        "pad_token_id": places[END],
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    }
    vision: dict[str, Any] = {
        "depth": 2,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_heads": 4,
        "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [1],
        "window_size": 112,
    }
    marks: dict[str, Any] = {name: places[token] for name, token in VISION.items()}
    given = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **marks)
    network = weight_files.random_network(lambda: stirred(Qwen2_5_VLForConditionalGeneration(given)))
    save(network, folder)
    processor.save_pretrained(folder)
    return marked(folder)
