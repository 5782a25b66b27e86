"""Load the base with transformers and the adapters with PEFT, without gossip, and test them."""

from __future__ import annotations

import torch
from data import load
from model import LENGTH, make
from peft import PeftModel
from safetensors.torch import load_file

if __name__ == "__main__":
    torch.set_num_threads(1)
    network = make((LENGTH,), 2)
    network.load_state_dict(load_file("data/base.safetensors"), strict=False)
    model = PeftModel.from_pretrained(network.model.eval(), "data/adapter")
    samples = load()
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(samples["x_test"])).logits
    right = (logits.argmax(1).numpy() == samples["y_test"]).mean()
    print(f"with PEFT: accuracy {100 * right:.1f} %")
