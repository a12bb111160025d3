"Fine-tuning and capacity: what is not a lesson. Other processes, other decoders, the loop of chapter 31, logs."
import json, sys

import pytest
import torch
from transformers import LlamaConfig, Qwen2Config

from helpers import ROOT, finish, start
from vary_nb.capacity import Letters, dense, density
from vary_nb.core import BadInput
from vary_nb.data.corpus import charset, faces
from vary_nb.data.text import TextPages
from vary_nb.finetune import Mixed, Receipts, handwriting, lora, tune
from vary_nb.model.vary import VaryConfig, VaryForConditionalGeneration, build, load, preset
from vary_nb.train import TrainConfig, train

MADE = '''
import sys
from pathlib import Path
from vary_nb.capacity import Letters
from vary_nb.core import sha256
from vary_nb.finetune import Receipts, handwriting
handwriting(sys.argv[1], seed=5, chars='abcXYZ 0123é汉字'); print(sha256(Path(sys.argv[1]).read_bytes()))
for s in (Receipts(seed=5)[9], Receipts(seed=5, size=(32,96))[0], Letters(7.5)[3]): print(sha256(s.images[0].tobytes()), s.text)
'''

@pytest.fixture
def hand(tmp_path): return handwriting(tmp_path/'hand.ttf', seed=2)

def words(hand, seed): return lambda size: TextPages(seed=seed, size=size, fonts=[hand], text_px=(14,20))


def test_made_things_are_the_same_in_every_process(tmp_path, capsys, monkeypatch):
    "Fonts to the byte, pictures to the pixel: here, and in a process with another hash seed."
    status,there,err = finish(start('-c', MADE, tmp_path/'there.ttf', env=dict(PYTHONHASHSEED='7'))); assert status==0, err
    monkeypatch.setattr(sys, 'argv', ['-c', str(tmp_path/'here.ttf')]); exec(MADE, {})
    assert capsys.readouterr().out==there and len(there.split())>=7


def test_a_hand_is_a_font_for_others(tmp_path):
    "It passes the checks that installed fonts must pass, draws every character, and a missing one is known to be missing."
    hand = handwriting(tmp_path/'h.ttf', seed=2, chars=[c for c in charset() if ord(c)<0x250])
    assert faces(tmp_path/'h.ttf')==[hand] and set(range(32,127))<=hand.codes and ord('汉') not in hand.codes
    s = TextPages(fonts=[hand], size=(64,512), random_share=0.)[3]
    assert len(s.glyphs)==len(''.join(s.text.split())) and s.meta['font']==hand.name


def test_the_loop_of_chapter_31_takes_mixed_samples(tmp_path, hand):
    "`train` from saved weights, on the same draws: it goes on from them, and its result loads."
    torch.manual_seed(0); model,processor = build('micro'); model.save_pretrained(tmp_path/'old'); processor.save_pretrained(tmp_path/'old')
    mixed = Mixed([words(hand, 1)], [lambda size: Receipts(seed=2, size=size)], share=.5)
    rows = train(TrainConfig(init=str(tmp_path/'old'), out=str(tmp_path/'run'), levels='1x2,1x4', first=1, mix=.5, steps=3, tokens=8, lr=1e-3, muon=0., glyph=0.,
                             log_every=1, eval_every=0, device='cpu'), mixed, mixed)
    assert rows[-1]['finished'] and rows[-1]['step']==3
    tuned,_ = load(tmp_path/'run'/'final')
    assert any(not torch.equal(a, b.half().float()) for a,b in zip(tuned.state_dict().values(), model.state_dict().values()))


@pytest.mark.parametrize('make,width', [(Qwen2Config,7), (LlamaConfig,7)])
def test_adapters_find_the_matrices_of_other_decoders(make, width):
    "Qwen2 and Llama name their matrices differently from OPT; every one of each layer gets an adapter, and nothing in the eye."
    small = make(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
    base = VaryForConditionalGeneration(VaryConfig(preset('micro').vision_config, small))
    inside = lora(base, rank=2, where='language').get_base_model()
    with_a = {n.split('.lora_A')[0] for n,_ in inside.named_parameters() if '.lora_A' in n}
    assert len(with_a)==2*width and all('language_model' in n and 'lm_head' not in n for n in with_a)
    assert all(('lora_' in n)==p.requires_grad for n,p in inside.named_parameters())


def test_where_the_adapter_sits():
    inside = {w: lora(build('micro')[0], rank=2, where=w).get_base_model() for w in ('language','vision','both')}
    ends = {w: {n.split('.lora_A')[0] for n,_ in m.named_parameters() if '.lora_A' in n} for w,m in inside.items()}
    assert ends['language'] and ends['vision'] and not ends['language']&ends['vision'] and ends['both']==ends['language']|ends['vision']
    assert len(ends['language'])==2*6 and len(ends['vision'])==2*4       # q k v out fc1 fc2; qkv proj lin1 lin2


def test_an_adapter_for_nano_is_small_and_merges(tmp_path, hand):
    "Two steps on the shipped weights: the saved adapter is under 1 MB, and the merged weights load without peft and give the same scores."
    model,processor = load('nano'); adapted = lora(model, where='both'); inside = adapted.get_base_model()
    tune(inside, processor, Mixed([words(hand, 1)]), 2, lr=1e-2, levels=((1,2),), tokens=4, warmup=1)
    adapted.save_pretrained(tmp_path/'a'); assert sum(p.stat().st_size for p in (tmp_path/'a').iterdir())<1_000_000
    sample = words(hand, 3)((32,128))[0]; x = processor(images=[sample.images[0]])
    with torch.no_grad():
        want = inside(**x).logits; merged = adapted.merge_and_unload(); merged.save_pretrained(tmp_path/'m'); processor.save_pretrained(tmp_path/'m')
        assert torch.allclose(load(tmp_path/'m')[0](**x).logits, want, atol=1e-3)
        assert not torch.allclose(load('nano')[0](**x).logits, want, atol=1e-3)


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(BadInput, match='pip install'): lora(build('micro')[0])


def test_small_text_is_dense_text():
    "Half the height: twice the characters in a token of one line, about four times in a token full of lines."
    one,half = (density(dense(px, n=16, kind='sentences', seed=1)) for px in (16,8))
    assert 1.6<half/one<2.4
    full = density(dense(5, n=8, lines=3, seed=1)); assert full>2*half
    assert {len(s.text)>0 for s in (Letters(px)[0] for px in (4,30))}=={True}


@pytest.mark.parametrize('name,kinds', [('finetune',{'header','run'}), ('capacity',{'header','tune','point','probe','done'})])
def test_logs_say_where_they_come_from(name, kinds):
    rows = [json.loads(l) for l in (ROOT/f'runs/{name}.jsonl').read_text().splitlines()]
    assert {r['kind'] for r in rows}==kinds and rows[0]['kind']=='header'
    assert all(rows[0].get(k) for k in ('commit','python','torch','transformers','machine','command','weights'))
    assert (ROOT/rows[0]['command'].split()[1]).is_file()
    measured = [s for r in rows for s in ([r] if r['kind']=='point' else r.get('sets', {}).values()) if 'cer' in s]
    assert measured and all(0<=s['low']<=s['cer']<=s['high'] and s['n']>=40 for s in measured)
