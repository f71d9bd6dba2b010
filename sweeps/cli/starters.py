"""Starter sweep files: small, commented, ready to run once the dataset is prepared."""

from __future__ import annotations

_HEAD = """\
# {title}
#
#   {prepare}
#   fairsweep describe {path}
#   fairsweep plan {file}      # trials, resources and the epsilon of each; starts nothing
#   fairsweep run {file}
#
# Every field: docs/sweep-file.md. For help while you write: fairsweep schema > sweep.schema.json, and then the line
# yaml-language-server: $schema=sweep.schema.json
"""
_BODY = """\
name: {name}
dataset:
  path: {path}
  label: {label}               # what is predicted
  groups: [{groups}]           # whose groups are compared
imbalance:                     # how the training set is made imbalanced; the test set never is
  attribute: {attribute}
  majority: {majority}         # a value by its name, or by the name it is shown by
  share: {{grid: [0.5, 0.9, 0.99]}}
  size: {size}
model: {{name: cnn}}             # or resnet18, linear
learners:
  - name: private              # DP-SGD: per-example clipping and noise
    kind: dpsgd
    epochs: 8
    batch_size: 256
    epsilon: 3.0               # the noise follows from it; or give noise_multiplier
    l2_clip_norm: 1.0
    optimizer: {{name: sgd, lr: 0.5, momentum: 0.9}}
  - {{name: matched, twin_of: private}}    # the same without clipping and noise: what privacy alone costs
  - name: tuned                # what training reaches without privacy
    kind: sgd
    epochs: 8
    batch_size: 128
    optimizer: {{name: adam, lr: 1e-3}}
evaluation: {{balance: [{balance}]}}       # one fixed test set for all; add per_cell: N for a smaller one
seeds: 2                       # replicates; five or more tell effects from noise
resources: {{cpu: 1}}            # {{cpu: 1, gpu: 0.25}} lets four trials share a GPU
"""


_WORDS = {
    "celeba": {
        "title": "Do private models learn to see smiles of men as well as those of women, where men are rare? (CelebA)",
        "prepare": "fairsweep prepare celeba --from CelebA --to data/celeba --image-size 64",
        "name": "celeba",
        "label": "smiling",
        "groups": "male",
        "attribute": "male",
        "majority": "female",
        "size": "20000",
        "balance": "male, smiling",
    },
    "utkface": {
        "title": "Whose gender does a private model get wrong, where most faces are white? (UTKFace)",
        "prepare": "fairsweep prepare utkface --from UTKFace --to data/utkface --image-size 64",
        "name": "utkface",
        "label": "gender",
        "groups": "race",
        "attribute": "race",
        "majority": "white",
        "size": "6000",
        "balance": "race, gender",
    },
    "faces": {
        "title": "What happens to faces of a rare skin tone when training is private? (drawn faces: no download)",
        "prepare": "fairsweep prepare faces --to data/faces",
        "name": "faces",
        "label": "smiling",
        "groups": "tone, shape",
        "attribute": "tone",
        "majority": "light",
        "size": "4000",
        "balance": "tone, shape, smiling",
    },
    "folder": {
        "title": "Your own images: a folder or zip of them, and a table that says what each one shows",
        "prepare": "fairsweep prepare folder --from IMAGES --table labels.csv --to data/mine --image-size 64",
        "name": "mine",
        "label": "LABEL",
        "groups": "GROUP",
        "attribute": "GROUP",
        "majority": "VALUE",
        "size": "2000",
        "balance": "GROUP, LABEL",
    },
}

STARTERS = {
    kind: (_HEAD + _BODY).format_map(words | {"file": f"{kind}.yaml", "path": f"data/{words['name']}"})
    for kind, words in _WORDS.items()
}
"""By the name that `fairsweep init` takes; a word in capitals is to be replaced."""
