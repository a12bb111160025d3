"""Is a network read from a file of transformers the same network? At full size, in single precision, with random weights.

    python tests/parity_checkpoints.py --out runs/checkpoints_parity.jsonl

For SamVisionModel and for GotOcr2ForConditionalGeneration (vision encoder and the two convolutions): weights are drawn,
written by `save_pretrained`, read by `load_vision_vocabulary`, and both networks look at the same 1024 x 1024 picture.
Weights are normal with a deviation of 0.02, relative positions of 0.2, so that they matter. One line of JSON a model:
largest difference behind the neck and of the tokens, the deviation of the outputs, seconds of processor time."""
import argparse, json, os, platform, subprocess, sys, tempfile, time, warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import torch
import transformers
from torch import nn

from vary_nb.core import count_params
from vary_nb.model.attention import pick_attention
from vary_nb.model.checkpoints import load_vision_vocabulary


def fill(model, seed=0):
    "Random weights that leave no part of the network silent."
    torch.manual_seed(seed)
    for name,p in model.named_parameters():
        if 'norm' in name and name.endswith('weight'): nn.init.normal_(p, 1, .1)
        else: nn.init.normal_(p, std=.2 if 'rel_pos' in name else .02)
    return model.eval()


def models():
    "Name and builder of each full-size model; the language half of GOT is cut to one layer, as nobody looks at it."
    yield 'SamVisionModel', lambda: transformers.SamVisionModel(transformers.SamVisionConfig())
    text = transformers.Qwen2Config(hidden_size=1024, num_hidden_layers=1, num_attention_heads=16, num_key_value_heads=16, intermediate_size=64, vocab_size=64)
    yield 'GotOcr2', lambda: transformers.GotOcr2ForConditionalGeneration(transformers.GotOcr2Config(text_config=text, image_token_index=3))


def outputs(name, model, x):
    "What transformers computes: the map behind the neck, and the tokens if it has the convolutions."
    if name=='SamVisionModel': return model(x).last_hidden_state, None
    m = model.model; neck = m.vision_tower(x).last_hidden_state; p = m.multi_modal_projector
    return neck, p.conv_upsampler2(p.conv_upsampler1(neck)).flatten(2).transpose(1,2)


@torch.no_grad()
def compare(name, build):
    "One line of the log."
    model = fill(build()); x = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1))
    attention = (model if name=='SamVisionModel' else model.model.vision_tower).config._attn_implementation
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        model.save_pretrained(folder)
        start = time.process_time(); ours = load_vision_vocabulary(folder); opened = time.process_time()-start
    start = time.process_time(); neck,tokens = outputs(name, model, x); theirs = time.process_time()-start; del model
    start = time.process_time(); got,at = ours(x, with_map=True); took = time.process_time()-start
    row = dict(model=name, layout=ours.report.layout, attention_theirs=attention, attention_ours=pick_attention('cpu', torch.float32, 192), parameters=count_params(ours), fresh=ours.report.fresh, neck=(at-neck).abs().max().item(), neck_std=neck.std().item(),
               seconds_to_open=round(opened, 2), seconds_theirs=round(theirs, 1), seconds_ours=round(took, 1))
    if tokens is not None: row |= dict(tokens=(got-tokens).abs().max().item(), tokens_std=tokens.std().item())
    return row


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter); ap.add_argument('--out', type=Path)
    a = ap.parse_args()
    commit = subprocess.run(['git','rev-parse','--short','HEAD'], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    rows = [dict(kind='header', command='python tests/parity_checkpoints.py', commit=commit, torch=torch.__version__, transformers=transformers.__version__,
                 machine=platform.processor() or platform.machine(), threads=torch.get_num_threads(), cores=os.cpu_count())]
    rows += [compare(*m) for m in models()]
    text = ''.join(json.dumps(r) + '\n' for r in rows); sys.stdout.write(text)
    if a.out: a.out.open('a').write(text)


if __name__=='__main__': main()
