"""Pre-train the embedded CLIP from scratch and write it in Hugging Face format with a model card.

Usage:
    python tools/pretrain_mini_clip.py --out build/mini_clip [--steps 12000] [--device auto]
    python tools/pretrain_mini_clip.py --out build/mini_clip            # again: resumes after a kill
    python tools/check_mini_clip.py build/mini_clip --card              # measures it, writes the card
    cp -r build/mini_clip/export/* src/secfpp/models/assets/mini_clip/

Batch i is drawn from the seed and i alone, so a killed run goes on where its last checkpoint stopped, with the
tokenizer it began with (the byte-pair trainer breaks ties in no fixed order: two runs can differ in rare tokens).
Recipe: symmetric contrastive loss without false negatives, an auxiliary classification of what the picture shows
(dropped afterwards), Muon for the hidden matrices and AdamW for the rest, bfloat16 compute with float32 master
weights, cosine decay.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from mini_clip_corpus import HOUSES, Batch, Corpus
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from secfpp.data.pools import labels, pool_digest
from secfpp.data.styles import SIDE
from secfpp.seeding import derive

CONTEXT = 32
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def make_tokenizer(corpus: Corpus, vocabulary: int) -> CLIPTokenizer:
    """A byte-pair tokenizer of CLIP's kind trained on the corpus' own captions."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    bpe.normalizer = normalizers.Lowercase()
    words = pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.train_from_iterator(
        corpus.sentences(40_000) + [*labels(), *HOUSES] * 20,
        trainers.BpeTrainer(vocab_size=vocabulary - 2, end_of_word_suffix="</w>", show_progress=False),
    )
    learned = json.loads(bpe.to_str())["model"]
    ids = {word: i for i, word in enumerate(sorted(learned["vocab"], key=learned["vocab"].__getitem__))}
    ids |= {"<|startoftext|>": len(ids), "<|endoftext|>": len(ids) + 1}  # the end token has the largest id, as in CLIP
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned["merges"]]
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=CONTEXT)


def make_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A small CLIP with random weights."""
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 4, "max_position_embeddings": CONTEXT, "pad_token_id": tokenizer.eos_token_id}
    vision = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 6}
    vision |= {"image_size": SIDE, "patch_size": 8}
    shared = {"projection_dim": 128, "hidden_act": "gelu"}
    config = CLIPConfig(text_config=text | special | shared, vision_config=vision | shared, projection_dim=128)
    model = CLIPModel._from_config(config, attn_implementation="eager")
    nn.init.normal_(model.vision_model.embeddings.patch_embedding.weight, std=0.02)
    return model


class Training:
    """Master weights in float32, a bfloat16 working copy, the auxiliary head, optimisers and the step count."""

    def __init__(self, corpus: Corpus, tokenizer: CLIPTokenizer, args: argparse.Namespace) -> None:
        self.corpus, self.tokenizer, self.args = corpus, tokenizer, args
        self.device = args.device
        self.master = make_model(tokenizer).to(self.device)
        self.head = nn.Parameter(0.05 * torch.randn(len(corpus.meanings), 128, device=self.device))
        self.worker = copy.deepcopy(self.master).bfloat16()
        named = dict(self.master.named_parameters())
        hidden = [p for n, p in named.items() if p.ndim == 2 and "encoder.layers" in n]
        rest = [p for n, p in named.items() if not (p.ndim == 2 and "encoder.layers" in n)]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(hidden, lr=args.lr, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [
                    {"params": [p for p in rest if p.ndim >= 2], "weight_decay": 0.1},
                    {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
                    {"params": [self.head], "weight_decay": 0.01},
                ],
                lr=args.lr,
                betas=(0.9, 0.98),
            ),
        ]
        self.step, self.seconds = 0, 0.0
        self.starts = [{"step": 0, "planned_steps": args.steps, "threads": torch.get_num_threads()}]
        self.mean, self.std = (torch.tensor(x, device=self.device).view(1, 3, 1, 1) for x in (MEAN, STD))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Contrastive plus auxiliary loss, and figures to print."""
        text = self.tokenizer(batch.captions, padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt")
        image = self.image_features((batch.images - self.mean) / self.std)
        words = self.worker.get_text_features(**text.to(self.device)).pooler_output.float()
        image, words = F.normalize(image, dim=-1), F.normalize(words, dim=-1)
        others = batch.alike.clone().fill_diagonal_(False)
        logits = (self.worker.logit_scale.float().exp() * image @ words[: len(image)].T).masked_fill(others, -1e4)
        target = torch.arange(len(logits), device=self.device)
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        head = F.normalize(self.head, dim=-1).bfloat16()
        shown = 20.0 * (image.bfloat16() @ head.T).float()
        named = 20.0 * (words.bfloat16() @ head.T).float()
        aux_image, aux_text = F.cross_entropy(shown, batch.meaning), F.cross_entropy(named, batch.told)
        told = batch.told >= 0
        house = torch.arange(len(told), device=self.device) >= len(image)
        right = named.argmax(1) == batch.told
        figures = {
            "contrast": contrast.item(),
            "image": (shown.argmax(1) == batch.meaning).float().mean().item(),
            "text": right[told].float().mean().item(),
            "house": right[house].float().mean().item(),
        }
        return contrast + aux_image + 0.5 * aux_text, figures

    def image_features(self, pixels: Tensor) -> Tensor:
        """Features [n, projection] of some random patches, of all patches in the last fifth of the run.

        Dropping patches makes a step cheaper and works as an augmentation (FLIP, arXiv 2212.00794).
        """
        vision = self.worker.vision_model
        tokens = vision.embeddings(pixels.bfloat16())  # [n, 1 + patches, width]
        if self.step < 0.8 * self.args.steps:
            order = torch.rand(tokens.shape[0], tokens.shape[1] - 1, generator=self.patches).argsort(1) + 1
            kept = F.pad(order[:, : round(self.args.keep * order.shape[1])], (1, 0)).to(self.device)
            tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
        last = vision.encoder(inputs_embeds=vision.pre_layrnorm(tokens)).last_hidden_state
        return self.worker.visual_projection(vision.post_layernorm(last[:, 0])).float()

    @property
    def patches(self) -> torch.Generator:
        """This step's draw of patches."""
        return torch.Generator().manual_seed(derive(self.args.seed, "patches", self.step).value)

    def update(self) -> dict[str, float]:
        """One optimiser step."""
        started = time.perf_counter()
        done = self.step / self.args.steps
        rate = self.args.lr * min(1.0, (self.step + 1) / 100) * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
        loss, figures = self.loss(self.corpus.batch(self.step, self.args.batch, self.device))
        self.worker.zero_grad(set_to_none=True)
        self.head.grad = None
        loss.backward()
        for master, worker in zip(self.master.parameters(), self.worker.parameters(), strict=True):
            master.grad = worker.grad.float() if worker.grad is not None else None
        nn.utils.clip_grad_norm_(self.master.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        with torch.no_grad():
            self.master.logit_scale.clamp_(max=math.log(100))
            for master, worker in zip(self.master.parameters(), self.worker.parameters(), strict=True):
                worker.copy_(master)
        self.step += 1
        self.seconds += time.perf_counter() - started
        return figures

    def save(self, folder: Path) -> None:
        """A checkpoint to resume from, replaced in one rename."""
        state = {"model": self.master.state_dict(), "head": self.head.data, "step": self.step, "seconds": self.seconds}
        state["starts"] = self.starts
        state["optimisers"] = [o.state_dict() for o in self.optimisers]
        torch.save(state, folder / "training.tmp")
        (folder / "training.tmp").rename(folder / "training.pt")

    def load(self, folder: Path) -> None:
        """Go on from `save`."""
        state = torch.load(folder / "training.pt", map_location=self.device)
        self.master.load_state_dict(state["model"])
        self.worker.load_state_dict(state["model"])
        self.head.data.copy_(state["head"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]
        now = {"step": self.step, "planned_steps": self.args.steps, "threads": torch.get_num_threads()}
        self.starts = [*state.get("starts", self.starts), now]

    def export(self, folder: Path) -> None:
        """The model in Hugging Face format, float16, with its processor and the facts of its making."""
        copy.deepcopy(self.master).eval().half().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        sizes = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
        CLIPImageProcessorPil(image_mean=MEAN, image_std=STD, **sizes).save_pretrained(folder)
        facts = {
            "seed": self.args.seed,
            "steps": self.step,
            "starts": self.starts,
            "batch": self.args.batch,
            "lr": self.args.lr,
            "keep": self.args.keep,
            "seconds": round(self.seconds),
            "device": str(self.device),
            "torch": torch.__version__.split("+")[0],
            "glyphs": len(self.corpus.masks),
            "meanings": len(self.corpus.meanings),
            "houses": len(HOUSES),
            "downstream_pool_sha256": pool_digest(),
        }
        (folder / "pretraining.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Train, resuming if there is a checkpoint, and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--keep", type=float, default=0.6, help="share of patches seen in the first 80 %% of steps")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=20_001)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--save-every", type=int, default=500)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    export = args.out / "export"
    export.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(args.seed)
    resumes = (args.out / "training.pt").exists()  # with the tokenizer it began with: making one breaks ties anyhow
    tokenizer = CLIPTokenizer.from_pretrained(export) if resumes else make_tokenizer(corpus, args.vocabulary)
    training = Training(corpus, tokenizer, args)
    if resumes:
        training.load(args.out)
        print(f"resumed at step {training.step}", flush=True)
    recent: list[dict[str, float]] = []
    while training.step < args.steps:
        recent.append(training.update())
        if training.step % 100 == 0:
            shown = " ".join(f"{k} {sum(f[k] for f in recent) / len(recent):.3f}" for k in recent[0])
            print(f"step {training.step} {training.seconds:.0f} s {shown}", flush=True)
            recent.clear()
        if training.step % args.save_every == 0 or training.step == args.steps:
            training.save(args.out)
            training.export(export)


if __name__ == "__main__":
    main()
