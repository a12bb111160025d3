"The forms of attention against each other, the encoder against its relatives, and the benchmark's script."
import json, sys
from types import ModuleType

import pytest, torch
from torch import nn

from helpers import finish, start
from vary_nb.core import BadInput
from vary_nb.model import attention
from vary_nb.model.attention import FORMS, Attention, attention_report, pick_attention
from vary_nb.model.vocabulary import VaryVisionConfig, VisionVocabulary

HERE = 'bias','augmented','tiles'  # without eager, the reference, and flash, which needs its package
MAPS = [(6,6), (1,9), (7,11), (13,5)]


def layer(form, dtype=torch.float32):
    "The same layer for every form; full tables, since zeros would hide mistakes."
    torch.manual_seed(0)
    m = Attention(48, 3, 13, 20, form)
    for p in (m.rel_pos_h, m.rel_pos_w): nn.init.normal_(p)
    return m.to(dtype)

def run(form, h, w, dtype=torch.float32):
    "Output and all gradients."
    m = layer(form, dtype); torch.manual_seed(1)
    x = torch.randn(2, h, w, 48).to(dtype).requires_grad_()
    y = m(x); y.float().square().mean().backward()
    return [y.detach(), x.grad, *(p.grad for p in m.parameters())]

def far(a, b): return ((a.float()-b.float()).norm()/b.float().norm().clamp(min=1e-6)).item()


@pytest.mark.parametrize('form', HERE)
@pytest.mark.parametrize('h,w', MAPS)
def test_same_output_and_gradients(form, h, w):
    for a,b in zip(run(form, h, w), run('eager', h, w), strict=True): torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('form', HERE)
def test_double_precision_leaves_no_doubt(form):
    for a,b in zip(run(form, 7, 11, torch.float64), run('eager', 7, 11, torch.float64), strict=True): assert far(a, b)<1e-6


@pytest.mark.parametrize('form', HERE)
def test_half_precision_is_no_worse_than_eager(form):
    exact = run('eager', 7, 11)
    for a,b,want in zip(run(form, 7, 11, torch.bfloat16), run('eager', 7, 11, torch.bfloat16), exact, strict=True):
        assert far(a, want) < max(2*far(b, want), .01)


@pytest.mark.parametrize('tile', [1, 7, 50, 77*77, 10**9])
def test_tiles_of_any_size(tile):
    torch.manual_seed(0)
    q,k,v = torch.randn(3, 2, 3, 77, 8).unbind(); lists = torch.randn(2, 3, 77, 7),torch.randn(2, 3, 77, 11)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(attention.attend_tiles(q, k, v, *lists, tile), FORMS['eager'](q, k, v, *lists), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_padded_windows_of_a_whole_encoder(dtype):
    "Maps of 8 x 16 and of 8 x 12 cells in windows of 3: padding at both edges, and it takes part."
    torch.manual_seed(0)
    net = VisionVocabulary(VaryVisionConfig.micro())
    for p in net.parameters(): nn.init.normal_(p, std=.2)
    def out(form, x, dtype):
        for b in net.blocks: b.attn.form = form
        with torch.no_grad(), torch.autocast('cpu', dtype, enabled=dtype!=torch.float32): return net.features(x)[0]
    for w in (128, 96):
        x = torch.randn(2, 3, 64, w); want = out('eager', x, torch.float32)
        for form in HERE: assert far(out(form, x, dtype), want) < (1e-5 if dtype==torch.float32 else 1.5*far(out('eager', x, dtype), want))


@pytest.fixture
def flash(monkeypatch):
    "A module `flash_attn` that demands what the real one documents; counts its calls."
    calls = []
    def flash_attn_func(q, k, v, dropout_p=0., softmax_scale=None, causal=False, **kw):
        assert q.dtype in (torch.float16, torch.bfloat16) and q.dtype==k.dtype==v.dtype, 'half precision only'
        assert q.dim()==4 and q.shape==k.shape==v.shape, 'equal head sizes'
        assert q.shape[-1]%8==0 and q.shape[-1]<=256 and not kw and not causal and dropout_p==0
        assert all(t.stride(-1)==1 for t in (q, k, v)), 'contiguous last dimension'
        calls.append(tuple(q.shape))
        q,k,v = (t.transpose(1, 2).float() for t in (q, k, v))
        scale = q.shape[-1]**-.5 if softmax_scale is None else softmax_scale
        return ((q @ k.transpose(-1, -2)*scale).softmax(-1) @ v).transpose(1, 2).to(torch.bfloat16)
    fake = ModuleType('flash_attn'); fake.flash_attn_func = flash_attn_func
    monkeypatch.setitem(sys.modules, 'flash_attn', fake)
    attention.flash_func.cache_clear(); yield calls; attention.flash_func.cache_clear()


def test_flash_package_gives_the_same(flash):
    want,eager = run('eager', 7, 11),run('eager', 7, 11, torch.bfloat16)
    for a,b,w in zip(run('flash', 7, 11, torch.bfloat16), eager, want, strict=True): assert far(a, w) < max(2*far(b, w), .01)
    assert flash==[(2, 77, 3, 40)], 'batch, positions, heads, 16+7+11 channels padded to a multiple of 8'

def test_paper_sizes_meet_flash_head_sizes(flash):
    "192 channels on the whole map and 96 in windows; a page costs too much here, so a strip of it."
    q,k,v = torch.randn(3, 1, 1, 64*2, 64, dtype=torch.bfloat16).unbind()
    FORMS['flash'](q, k, v, torch.randn(1, 1, 128, 2).bfloat16(), torch.randn(1, 1, 128, 64).bfloat16())
    for h in (14, 64):
        n = h*h; lists = torch.zeros(1, 1, n, h, dtype=torch.bfloat16); q = torch.zeros(1, 1, n, 64, dtype=torch.bfloat16)
        assert attention.widen(q, q, q, lists, lists)[2].shape[-1]=={14:96, 64:192}[h]
    assert flash[0][-1]==136

def test_choice(flash):
    assert [pick_attention(*a) for a in [('cpu', torch.bfloat16), ('cuda', torch.bfloat16), ('cuda', torch.float16, 256),
        ('cuda', torch.float16, 264), ('cuda', torch.float32)]]==['tiles', 'flash', 'flash', 'augmented', 'augmented']

def test_flash_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'flash_attn', None); attention.flash_func.cache_clear()
    assert pick_attention('cuda', torch.bfloat16)=='augmented'
    with pytest.raises(ImportError, match='needs the flash-attn package'): run('flash', 2, 2, torch.bfloat16)
    attention.flash_func.cache_clear()


def test_report_of_an_encoder_and_of_a_model(micro):
    from vary_nb.model.vary import load
    model = load(str(micro))[0].float()
    net = next(m for m in model.modules() if isinstance(m, VisionVocabulary))
    for block,form in zip(net.blocks, ('augmented','eager','tiles')): block.attn.form = form
    rows = attention_report(model)
    assert [r['form'] for r in rows][:3]==['augmented','eager','tiles'][:len(rows)]
    assert all(r['kernels'] for r in rows) and 'flash' in rows[0]['kernels'][0]
    assert not any(m._forward_pre_hooks for m in net.modules()), 'hooks are gone'


def test_any_size_by_resized_positions():
    crop,free = VaryVisionConfig(),VaryVisionConfig(positions='resize')
    with pytest.raises(BadInput, match='at most 1024x1024'): crop.tokens(1280, 1280)
    assert free.tokens(1280, 640)==20*10
    with torch.device('meta'): net = VisionVocabulary(free)
    assert sum(p.numel() for p in net.parameters())==95_569_152 and len(net.state_dict())==179
    for side in (256, 512, 1280): assert net(torch.empty(1, 3, side, side, device='meta')).shape==(1, (side//64)**2, 1024)

def test_old_configurations_still_crop():
    d = VaryVisionConfig().to_dict(); d.pop('positions')
    assert VaryVisionConfig(**d).positions=='crop'


def test_benchmark_runs(tmp_path):
    "A tiny network, one way: every other is one more process."
    out = tmp_path/'b.jsonl'
    status,stdout,err = finish(start('tests/bench_attention.py', '--micro', '--sizes', 64, '--rounds', 1, '--backward', '--ways', 'tiles', '--out', out))
    assert status==0, err
    first,row = map(json.loads, out.read_text().split('\n')[:2])
    assert first['cpu'] and row['ways']['tiles']['kernels'] and row['ways']['tiles']['memory']>0
