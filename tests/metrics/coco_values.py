"""Makes coco_values.json: what coco-caption says of a few captions. Nothing else imports it.

    pip install pycocoevalcap==1.2; python tests/metrics/coco_values.py

Java runs METEOR and the PTB tokenizer. The captions are our own, chosen for their edges: empty, one word,
repeated words, another script, the references' own words, several references alike.
"""

import json
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

FILE = Path(__file__).with_name("coco_values.json")
IMAGES = [
    ("a brown dog runs across the grass", ["a dog runs on the grass", "the brown dog is running", "a dog"]),
    ("two men sit on a bench", ["two men sit on a bench", "two men sit on a bench", "men on a wooden bench"]),
    ("", ["a child jumps into the water", "a kid leaps in a pool"]),
    ("dog", ["a dog runs after a red ball", "dog"]),
    ("a a a a dog dog dog", ["a dog and a cat play", "a dog", "a a dog dog"]),
    (
        "ein hund läuft über die straße",
        ["ein hund läuft über eine straße", "ein brauner hund auf der straße"],
    ),
    ("一 只 狗 在 草地 上", ["一 只 狗 在 草地 上 跑", "一 只 棕色 的 狗"]),
    ("a girl in a pink dress climbs the stairs of a wooden house", ["a little girl climbs stairs"]),
    ("people", ["a crowd of people stands in front of a large building at night", "many people"]),
    (
        "the man rides a bike down a hill",
        ["a cyclist rides down the hill", "a man on a bicycle goes downhill"],
    ),
]
WRITTEN = [
    "A man's dog can't swim .",
    "Two boys -- both laughing -- run !",
    'T-shirt, "red"',
    "",
    "Café (at 5pm)",
]


def main():
    references = {i: texts for i, (_, texts) in enumerate(IMAGES)}
    captions = {i: [text] for i, (text, _) in enumerate(IMAGES)}
    bleu, _ = Bleu(4).compute_score(references, captions, verbose=0)
    corpus, each = {f"bleu{n}": score for n, score in enumerate(bleu, 1)}, {}
    for name, metric in {"cider": Cider(), "rouge_l": Rouge(), "meteor": Meteor()}.items():
        corpus[name], each[name] = metric.compute_score(references, captions)
        each[name] = [float(score) for score in each[name]]
    tokenized = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(WRITTEN)})
    value = {
        "images": IMAGES,
        "corpus": {name: float(score) for name, score in corpus.items()},
        "each": each,
        "written": WRITTEN,
        "ptb": [text for texts in tokenized.values() for text in texts],
    }
    FILE.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
