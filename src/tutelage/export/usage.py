"""How exported files are used without Tutelage: what they take, and a script for each kind."""

from __future__ import annotations

from dataclasses import dataclass

ONNX_SCRIPT = """\
import json, sys
import numpy as np
import onnxruntime
from PIL import Image, ImageOps
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGBA")
pixels = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
logits = session.run(["logits"], {"images": np.asarray(pixels)[None]})[0][0]
print(classes[logits.argmax()])
"""
"""Runs ``model.onnx`` on the image named on the command line and prints its class."""

TEXT_SCRIPT = """\
import json, sys
import numpy as np
import onnxruntime
from tokenizers import Tokenizer
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
how, classes = json.loads(about["preprocess"]), json.loads(about["classes"])
tokenizer = Tokenizer.from_file("tokenizer/tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation(how["length"], direction=how["truncation"])
texts = [how["template"].replace("{text}", sys.argv[1])] + sys.argv[2:3]
if "{text_pair}" in texts[0]:
    texts = [texts[0].replace("{text_pair}", texts.pop())]
found = tokenizer.encode(*texts)
tokens = {"input_ids": found.ids, "attention_mask": found.attention_mask, "token_type_ids": found.type_ids}
inputs = {each.name: np.array([tokens[each.name]]) for each in session.get_inputs()}
logits = session.run(["logits"], inputs)[0][0]
print(classes[logits.argmax()])
"""
"""Runs a model of texts on the text (or the two of a pair) on the command line and prints its class. It cuts the end
of a filled template, where Tutelage cuts the text in it."""

PAIR_SCRIPT = """\
import json, sys
import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
how, classes = json.loads(about["preprocess"])["text"], json.loads(about["classes"])
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGBA")
pixels = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
tokenizer = Tokenizer.from_file("tokenizer/tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation(how["length"], direction=how["truncation"])
found = tokenizer.encode(how["template"].replace("{text}", sys.argv[2]))
tokens = {"input_ids": found.ids, "attention_mask": found.attention_mask, "token_type_ids": found.type_ids}
inputs = {each.name: np.array([tokens[each.name]]) for each in session.get_inputs() if each.name != "images"}
logits = session.run(["logits"], {"images": np.asarray(pixels)[None], **inputs})[0][0]
print(classes[logits.argmax()])
"""
"""Runs a model of images with texts on the image and the text on the command line and prints their class."""

MASK_SCRIPT = """\
import json, sys
import numpy as np
import onnxruntime
from PIL import Image, ImageOps
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGBA")
pixels = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
mask = session.run(["mask"], {"images": np.asarray(pixels)[None]})[0][0]
print([json.loads(about["classes"])[number] for number in np.unique(mask)])
found = Image.fromarray(mask.astype(np.uint8))
found.putpalette(np.uint8(json.loads(about["palette"])[:256]).tobytes())
found.save("mask.png")
"""
"""Runs a segmentation model's ``model.onnx`` likewise, prints the classes that it finds, and writes ``mask.png``."""


@dataclass(frozen=True)
class Use:
    """How a model is used, by what it reads.

    Attributes:
        takes: The inputs of its file.
        inside: What of its preprocessing is in the file, before the settings of it.
        packages: What the script needs.
        script: Answers one sample.
        example: A sample, in Python.
        others: What samples of another kind than those that it was tested on may come from.
        stranger: A sample that is of none of its classes.
    """

    takes: str
    inside: str
    packages: str
    script: str
    example: str
    others: str
    stranger: str


IMAGES_TAKEN = "`images`, uint8 [batch, height, width, 3], RGB, of any size"
TOKENS_TAKEN = "the tokens of texts, `input_ids` and what else it names, each int64 [batch, length]"

USES = {
    "image": Use(
        takes=IMAGES_TAKEN,
        inside=" Preprocessing is inside:",
        packages="onnxruntime pillow numpy",
        script=ONNX_SCRIPT,
        example='"image.jpg"',
        others="Other cameras, places, seasons or habits of framing",
        stranger="an image that shows none of them",
    ),
    "text": Use(
        takes=TOKENS_TAKEN,
        inside=" The tokenizer that makes them is in `tokenizer/`; a text is first put into the template:",
        packages="onnxruntime tokenizers numpy",
        script=TEXT_SCRIPT,
        example='"a text"',
        others="Other sources, subjects, times, styles or languages",
        stranger="a text that belongs to none of them, or that is in a language it never saw",
    ),
    "pair": Use(
        takes=f"{IMAGES_TAKEN}, with {TOKENS_TAKEN}",
        inside=" Preprocessing of images is inside; the tokenizer is in `tokenizer/`:",
        packages="onnxruntime tokenizers pillow numpy",
        script=PAIR_SCRIPT,
        example='("image.jpg", "a text")',
        others="Other cameras, subjects, styles or languages",
        stranger="an image and a text that belong to none of them",
    ),
}
"""By modality."""
